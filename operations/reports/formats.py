"""The kinds of file that a report can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from operations.reports.csv_file import csv_file
from operations.reports.pdf_file import pdf_file
from operations.reports.xlsx_file import xlsx_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from operations.reports.period import Period
    from operations.reports.rows import Figures, Row

# A canvas of reportlab keeps its pages until the end: 50,000 rows are 1,100 of them, and more than anybody reads.
PDF_ROWS_MAX = 50_000


class Sheet(Protocol):
    """A file that is being written."""

    def add(self, rows: Sequence[Row]) -> None:
        """The rows are in it, behind those before them."""

    def finish(self, figures: Figures) -> None:
        """What the rows come to is in it, and it is whole."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file."""

    opened: Callable[[IO[bytes], Period], AbstractContextManager[Sheet]]
    content_type: str
    rows_max: int | None = None


FORMATS = {
    "csv": Format(opened=csv_file, content_type="text/csv; charset=utf-8"),
    "xlsx": Format(
        opened=xlsx_file,
        content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    "pdf": Format(opened=pdf_file, content_type="application/pdf", rows_max=PDF_ROWS_MAX),
}
