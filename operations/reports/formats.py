"""The file formats of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from operations.reports.csv_file import open_csv
from operations.reports.pdf_file import open_pdf
from operations.reports.xlsx_file import open_xlsx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from operations.reports.period import Period
    from operations.reports.rows import Row, Totals

# reportlab keeps its pages in memory until the end; 50,000 rows are 1,100 pages, more than anyone reads.
PDF_ROWS_MAX = 50_000


class ReportFile(Protocol):
    """A report that is being written."""

    def add(self, rows: Sequence[Row]) -> None:
        """Append the rows."""

    def finish(self, totals: Totals) -> None:
        """Write the totals and complete the file."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format; ``open`` gets the file to write into."""

    open: Callable[[IO[bytes], Period], AbstractContextManager[ReportFile]]
    content_type: str
    rows_max: int | None = None


FORMATS = {
    "csv": Format(open=open_csv, content_type="text/csv; charset=utf-8"),
    "xlsx": Format(
        open=open_xlsx, content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    ),
    "pdf": Format(open=open_pdf, content_type="application/pdf", rows_max=PDF_ROWS_MAX),
}
