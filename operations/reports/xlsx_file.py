"""A report as an Excel workbook: the jobs, on as many sheets as they need, and what they come to."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import xlsxwriter

from operations.reports.rows import HEADINGS, neutral

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from operations.reports.period import Period
    from operations.reports.rows import Figures, Row

# A sheet has 1,048,576 lines at most.
_LINES_MAX = 1_000_000
# Excel keeps 15 digits of a number: what is longer, or no number, stays text.
_NUMBER = re.compile(r"(?=.{1,16}\Z)\d{1,15}(\.\d{1,3})?", re.ASCII)
_OPTIONS = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}


class _XlsxSheet:
    def __init__(self, workbook: Any, period: Period) -> None:  # noqa: ANN401 - xlsxwriter has no types
        self._workbook = workbook
        self._period = period
        self._bold = workbook.add_format({"bold": True})
        self._sheets = 0
        self._new_sheet()

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if self._line == _LINES_MAX:
                self._new_sheet()
            _write_line(self._sheet, self._line, row)
            self._line += 1

    def finish(self, figures: Figures) -> None:
        totals = self._workbook.add_worksheet("Totals")
        totals.set_column(0, 2, 20)
        lines = [
            ("Jobs", f"created from {self._period}", ""),
            ("", str(figures.rows), ""),
            ("currency", "charged", "refunded"),
            *((one["currency"], one["charged"], one["refunded"]) for one in figures.totals()),
        ]
        for number, line in enumerate(lines):
            _write_line(totals, number, line)
        self._workbook.close()

    def _new_sheet(self) -> None:
        self._sheets += 1
        self._sheet = self._workbook.add_worksheet(f"Jobs {self._sheets}" if self._sheets > 1 else "Jobs")
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, 0, 38)
        self._sheet.set_column(1, len(HEADINGS) - 1, 24)
        for column, heading in enumerate(HEADINGS):
            self._sheet.write_string(0, column, heading, self._bold)
        self._line = 1


@contextmanager
def xlsx_file(file: IO[bytes], period: Period) -> Iterator[_XlsxSheet]:
    """Rows go into temporary files, one of which is open for each sheet, and into the file at the end. Nothing else is left."""
    with tempfile.TemporaryDirectory(prefix="semel-report-") as folder:
        workbook = xlsxwriter.Workbook(file, {**_OPTIONS, "tmpdir": folder})
        workbook.use_zip64()
        try:
            yield _XlsxSheet(workbook, period)
        finally:
            # Where it was not finished, its files are open still.
            if not workbook.fileclosed:
                for sheet in workbook.worksheets():
                    sheet._opt_close()  # noqa: SLF001 - it offers no other way to give up


def _write_line(sheet: Any, line: int, cells: Sequence[str | int]) -> None:  # noqa: ANN401 - see above
    """The cells are in the sheet: numbers as such, so that people can sum them, all else as text."""
    for column, cell in enumerate(cells):
        if isinstance(cell, int) or _NUMBER.fullmatch(cell):
            sheet.write_number(line, column, float(cell))
        elif cell:
            sheet.write_string(line, column, neutral(cell))
