"""A report as CSV (RFC 4180), in UTF-8."""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from operations.reports.rows import HEADINGS, neutral

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from operations.reports.period import Period
    from operations.reports.rows import Figures, Row


class _CsvSheet:
    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._writer = csv.writer(text)
        self._writer.writerow(HEADINGS)

    def add(self, rows: Sequence[Row]) -> None:
        self._writer.writerows(
            row._replace(
                operation=neutral(row.operation), charge=neutral(row.charge), currency=neutral(row.currency)
            )
            for row in rows
        )

    def finish(self, figures: Figures) -> None:  # noqa: ARG002 - a last line of sums would be taken for a job
        self._text.flush()


@contextmanager
def csv_file(file: IO[bytes], period: Period) -> Iterator[_CsvSheet]:  # noqa: ARG001 - a format's signature
    """Rows go into the file as they come. It stays open."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield _CsvSheet(text)
    finally:
        text.detach()
