"""A table on the terminal: ours, the published number under it, and the floor, in as many parts as the width needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import printable
from bench.report.cell import ReportCell
from bench.report.table import ReportTable
from bench.report.text import (
    CellText,
    caption,
    cell_text,
    column_label,
    heading,
    notes,
    published_cell,
    row_label,
    section_label,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_VERDICT_STYLE = {"better than floor": "green", "no better than floor": "yellow"}
#: What Rich's border and padding take beside the text of a column.
_PADDING = 3


def print_table(table: ReportTable, console: Console | None = None, published: bool = True) -> None:
    """Print a table with its caption and notes; a column goes to the next part if the console is too narrow."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    console.print(Text(printable(heading(table)), style="bold"))
    console.print(Text(printable(caption(table))), style="dim")
    for columns in _parts(table, console.width, published):
        console.print(_rich_table(table, columns, published))
    if published and any(cell.published for cell in table.cells):
        console.print("First line: ours. Second line: published.")
    for note in notes(table, published):
        console.print(Text(printable(note)), style="dim")


def _lines(table: ReportTable, cell: ReportCell, published: bool) -> list[str]:
    """Return the lines of text in a cell."""
    lines = [cell_text(table, cell, published).plain]
    if published and cell.published is not None:
        lines.append(published_cell(table, cell).plain)
    return lines


def _header(table: ReportTable, column: int) -> list[str]:
    """Return the lines of a column's header."""
    group = table.spec.columns[column].group
    return [printable(text) for text in [*([group] if group else []), column_label(table, column).plain]]


def _row_text(table: ReportTable, row: int) -> str:
    return printable(row_label(table, row).plain)


def _section_text(table: ReportTable, section: int) -> str:
    return printable(section_label(table, section).plain)


def _label_width(table: ReportTable) -> int:
    """Return the width of the row labels, and of the section labels if there are any."""
    spec = table.spec
    width = max(len(_row_text(table, row)) for row in range(len(spec.rows))) + _PADDING
    if spec.has_section_labels:
        width += max(len(_section_text(table, section)) for section in range(len(spec.sections))) + _PADDING
    return width


def _parts(table: ReportTable, width: int, published: bool) -> list[list[int]]:
    """Return the columns of each part, as many as fit into ``width`` beside the labels and at least one."""
    parts: list[list[int]] = [[]]
    room = width - _label_width(table) - 1
    left = room
    for column in range(len(table.spec.columns)):
        texts = _header(table, column)
        for cell in table.cells:
            if cell.spec.column == column:
                texts = texts + _lines(table, cell, published)
        need = max(len(text) for text in texts) + _PADDING
        if need > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append(column)
        left -= need
    return parts


def _rich_table(table: ReportTable, columns: list[int], published: bool) -> Table:
    """Return one part of a table."""
    from rich.table import Table
    from rich.text import Text

    spec = table.spec
    labelled = spec.has_section_labels
    rich = Table(show_lines=False)
    if labelled:
        rich.add_column(Text(printable(spec.format.section_heading)), no_wrap=True)
    rich.add_column(Text(printable(spec.format.row_heading)), no_wrap=True)
    for column in columns:
        rich.add_column(Text("\n".join(_header(table, column))), justify="right", no_wrap=True)
    for section in range(len(spec.sections)):
        for row in range(len(spec.rows)):
            first = [Text(_section_text(table, section) if row == 0 else "")] if labelled else []
            style = "italic" if spec.rows[row].reference or spec.rows[row].floor else ""
            cells = [_rich_text(table, table.cell(section, row, column), published) for column in columns]
            last = row == len(spec.rows) - 1
            rich.add_row(*first, Text(_row_text(table, row), style=style), *cells, end_section=last)
    return rich


def _rich_text(table: ReportTable, cell: ReportCell, published: bool) -> Text:
    """Return a cell: ours in the colour of its verdict, the published number dim under it."""
    from rich.text import Text

    ours: CellText = cell_text(table, cell, published)
    colour = _VERDICT_STYLE.get(cell.verdict, "")
    text = Text(ours.plain, style=f"bold {colour}".strip() if ours.bold else colour)
    for line in _lines(table, cell, published)[1:]:
        text.append(f"\n{line}", style="dim")
    return text
