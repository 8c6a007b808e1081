"""A report as CSV (RFC 4180), in UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from operations.reports.rows import HEADINGS, escape_formula

if TYPE_CHECKING:
    from operations.reports.period import Period
    from operations.reports.rows import Row, Totals


class _CsvFile:
    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._writer = csv.writer(text)
        self._writer.writerow(HEADINGS)

    def add(self, rows: Sequence[Row]) -> None:
        self._writer.writerows(
            row._replace(
                operation=escape_formula(row.operation),
                charge=escape_formula(row.charge),
                currency=escape_formula(row.currency),
            )
            for row in rows
        )

    def finish(self, totals: Totals) -> None:  # noqa: ARG002 - a row of totals would be read as a job
        self._text.flush()


@contextmanager
def open_csv(file: IO[bytes], period: Period) -> Iterator[_CsvFile]:  # noqa: ARG001 - the signature of a format
    """Write rows as they are added. The file stays open."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield _CsvFile(text)
    finally:
        text.detach()
