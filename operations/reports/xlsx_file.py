"""A report as an Excel workbook: the jobs, on as many sheets as they need, and a sheet of totals."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import xlsxwriter

from operations.reports.rows import HEADINGS, escape_formula

if TYPE_CHECKING:
    from operations.reports.period import Period
    from operations.reports.rows import Row, Totals

# A sheet holds at most 1,048,576 rows.
_ROWS_MAX = 1_000_000
# Excel keeps 15 digits of a number: longer numbers, like anything else, are written as text.
_NUMBER = re.compile(r"(?=.{1,16}\Z)\d{1,15}(\.\d{1,3})?", re.ASCII)
_OPTIONS = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}


class _XlsxFile:
    def __init__(self, workbook: Any, period: Period) -> None:  # noqa: ANN401 - xlsxwriter has no types
        self._workbook = workbook
        self._period = period
        self._bold = workbook.add_format({"bold": True})
        self._sheets = 0
        self._new_sheet()

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if self._next_row == _ROWS_MAX:
                self._new_sheet()
            _write_row(self._sheet, self._next_row, row)
            self._next_row += 1

    def finish(self, totals: Totals) -> None:
        sheet = self._workbook.add_worksheet("Totals")
        sheet.set_column(0, 2, 20)
        rows = [
            ("Jobs", f"created from {self._period}", ""),
            ("", str(totals.rows), ""),
            ("currency", "charged", "refunded"),
            *((sums["currency"], sums["charged"], sums["refunded"]) for sums in totals.by_currency()),
        ]
        for number, row in enumerate(rows):
            _write_row(sheet, number, row)
        self._workbook.close()

    def _new_sheet(self) -> None:
        self._sheets += 1
        self._sheet = self._workbook.add_worksheet(f"Jobs {self._sheets}" if self._sheets > 1 else "Jobs")
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, 0, 38)
        self._sheet.set_column(1, len(HEADINGS) - 1, 24)
        for column, heading in enumerate(HEADINGS):
            self._sheet.write_string(0, column, heading, self._bold)
        self._next_row = 1


@contextmanager
def open_xlsx(file: IO[bytes], period: Period) -> Iterator[_XlsxFile]:
    """Collect rows in temporary files, which xlsxwriter packs into the file at the end; remove them in any case."""
    with tempfile.TemporaryDirectory(prefix="semel-report-") as folder:
        workbook = xlsxwriter.Workbook(file, {**_OPTIONS, "tmpdir": folder})
        workbook.use_zip64()
        try:
            yield _XlsxFile(workbook, period)
        finally:
            if not workbook.fileclosed:
                for sheet in workbook.worksheets():
                    sheet._opt_close()  # noqa: SLF001 - xlsxwriter has no public way to abandon a workbook


def _write_row(sheet: Any, number: int, cells: Sequence[str | int]) -> None:  # noqa: ANN401 - see above
    """Write numbers as numbers, so that they can be summed, and all else as text."""
    for column, cell in enumerate(cells):
        if isinstance(cell, int) or _NUMBER.fullmatch(cell):
            sheet.write_number(number, column, float(cell))
        elif cell:
            sheet.write_string(number, column, escape_formula(cell))
