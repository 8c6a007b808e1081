"""A report as PDF: a chart of the jobs per day, the rows page by page, and the totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from reportlab.graphics import renderPDF
from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.shapes import Drawing
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4, landscape
from reportlab.pdfgen.canvas import Canvas

from operations.reports.rows import HEADINGS

if TYPE_CHECKING:
    from operations.reports.period import Period
    from operations.reports.rows import Row, Totals

# In points (1/72 inch).
_WIDTH, _HEIGHT = landscape(A4)
_MARGIN, _ROW_HEIGHT = 36, 11
_CHART_HEIGHT = 150
# The left edge of each column, and how many characters fit into it.
_COLUMNS = (
    (0, 36), (138, 24), (226, 10), (266, 24), (358, 24), (450, 4), (476, 30), (590, 18), (666, 4), (690, 18),
)  # fmt: skip
_TITLE, _TEXT = ("Helvetica-Bold", 16), ("Helvetica", 7)
# Days named under the chart.
_DAY_LABELS = 12


class _PdfFile:
    def __init__(self, canvas: Canvas, period: Period) -> None:
        self._canvas = canvas
        self._page = 1
        self._canvas.setTitle(f"Jobs, {period}")
        self._y = _HEIGHT - _MARGIN - 16
        self._canvas.setFont(*_TITLE)
        self._canvas.drawString(_MARGIN, self._y, f"Jobs and charges, {period}")
        self._y -= _CHART_HEIGHT + 2 * _ROW_HEIGHT
        renderPDF.draw(_chart(period), self._canvas, _MARGIN, self._y)
        self._y -= 2 * _ROW_HEIGHT
        self._draw_headings()

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._draw_row([str(cell) for cell in row])

    def finish(self, totals: Totals) -> None:
        self._draw_row([])
        self._draw_row([f"Jobs: {totals.rows}"])
        for sums in totals.by_currency():
            text = f"Charged in {sums['currency']}: {sums['charged']}, of it refunded: {sums['refunded']}"
            self._draw_row([text], clip=False)
        self._end_page()
        self._canvas.save()

    def _draw_headings(self) -> None:
        self._canvas.setFont("Helvetica-Bold", 7)
        self._draw_cells(HEADINGS, clip=False)
        self._canvas.setFont(*_TEXT)

    def _draw_row(self, cells: Sequence[str], *, clip: bool = True) -> None:
        if self._y < _MARGIN + 2 * _ROW_HEIGHT:
            self._end_page()
            self._page += 1
            self._y = _HEIGHT - _MARGIN
            self._draw_headings()
        self._draw_cells(cells, clip=clip)

    def _draw_cells(self, cells: Sequence[str], *, clip: bool) -> None:
        for (x, length), cell in zip(_COLUMNS, cells, strict=False):
            if cell:
                self._canvas.drawString(_MARGIN + x, self._y, _in_standard_font(cell[:length] if clip else cell))
        self._y -= _ROW_HEIGHT

    def _end_page(self) -> None:
        self._canvas.drawRightString(_WIDTH - _MARGIN, _MARGIN, f"page {self._page}")
        self._canvas.showPage()


@contextmanager
def open_pdf(file: IO[bytes], period: Period) -> Iterator[_PdfFile]:
    """Draw and compress each page when it is full; keep the compressed pages in memory until the end."""
    yield _PdfFile(Canvas(file, pagesize=(_WIDTH, _HEIGHT), pageCompression=1), period)


def _chart(period: Period) -> Drawing:
    """Chart the number of jobs per day."""
    counts = period.jobs_per_day or (0,)
    every = -(-len(counts) // _DAY_LABELS)
    names = [str(day.first) for day in period.days()]
    drawing = Drawing(_WIDTH - 2 * _MARGIN, _CHART_HEIGHT)
    chart: Any = VerticalBarChart()
    chart.x, chart.y = 40, 20
    chart.width, chart.height = drawing.width - 60, _CHART_HEIGHT - 30
    chart.data = [counts]
    chart.bars[0].fillColor = HexColor("#2f6f9f")
    chart.bars[0].strokeColor = None
    chart.valueAxis.valueMin, chart.valueAxis.valueMax = 0, max(1, *counts, 1)
    chart.valueAxis.labels.fontSize = chart.categoryAxis.labels.fontSize = 7
    chart.categoryAxis.categoryNames = [name if number % every == 0 else "" for number, name in enumerate(names)]
    chart.categoryAxis.visibleTicks = False
    drawing.add(chart)
    return drawing


def _in_standard_font(text: str) -> str:
    """Replace what the standard PDF fonts cannot show, which is all but Latin letters, by question marks."""
    return text.encode("cp1252", "replace").decode("cp1252")
