"""A table as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.errors import printable
from bench.report.table import ReportTable
from bench.report.text import (
    PUBLISHED_LABEL,
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


def escape(text: str) -> str:
    """Return plain text as Markdown that prints as it is, inside a table cell too."""
    without_html = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(re.sub(r"([\\`*_{}\[\]|#~$])", r"\\\1", without_html).split())


def markdown_table(table: ReportTable, published: bool = False) -> str:
    """Return the table with heading, caption and notes; with ``published``, a line with the paper's numbers as well."""
    spec = table.spec
    labelled = spec.has_section_labels
    headings = ([spec.format.section_heading] if labelled else []) + [spec.format.row_heading]
    headers = [escape(heading) for heading in headings]
    for index, column in enumerate(spec.columns):
        group = f"{escape(column.group)}<br>" if column.group else ""
        headers.append(group + _text(column_label(table, index)))
    lines = [_line(headers), _line(["---"] * len(headings) + [":---:"] * len(spec.columns))]
    for section in range(len(spec.sections)):
        for row in range(len(spec.rows)):
            first = [_text(section_label(table, section)) if row == 0 else ""] if labelled else []
            italic = spec.rows[row].reference or spec.rows[row].floor
            cells = table.line(section, row)
            ours = [_text(cell_text(table, cell, published)) for cell in cells]
            lines.append(_line([*first, _text(row_label(table, row), italic), *ours]))
            if published and any(cell.published for cell in cells):
                theirs = [_text(published_cell(table, cell)) for cell in cells]
                lines.append(_line([*[""] * (len(headings) - 1), f"&nbsp;&nbsp;{PUBLISHED_LABEL}", *theirs]))
    below = [f"- {escape(note)}" for note in notes(table, published)]
    head = [f"### {escape(heading(table))}", "", escape(caption(table)), ""]
    return "\n".join([*head, *lines, *(["", *below] if below else [])]) + "\n"


def _text(text: CellText, italic: bool = False) -> str:
    """Return a text with its typography."""
    escaped = escape(text.text)
    if text.bold:
        escaped = f"**{escaped}**"
    if italic:
        escaped = f"*{escaped}*"
    return escaped + (f"<sup>{escape(text.marks)}</sup>" if text.marks else "")


def _line(cells: Sequence[str]) -> str:
    """Return one line of the table."""
    return "| " + " | ".join(cells) + " |"
