"""A table as LaTeX in the paper's typography: caption, label, booktabs, notes below. Needs booktabs and nothing else.

A table that is too wide for the paper's text at 7 points is broken into several floats, never scaled.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from bench.report.table import ReportTable
from bench.report.text import (
    PUBLISHED_LABEL,
    CellText,
    caption,
    cell_text,
    column_groups,
    column_label,
    decimal_text,
    notes,
    published_cell,
    published_text,
    row_label,
    section_label,
)

if TYPE_CHECKING:
    from jinja2 import Template

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # After a line's end LaTeX would read these as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "σ": r"$\sigma$",
    "×": r"$\times$",
    "−": "$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "–": "--",
    "—": "---",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "○": r"$\circ$",
    "⊥": r"$\bot$",
    "≠": r"$\neq$",
    "↗": r"$\nearrow$",
    "↓": r"$\downarrow$",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "§": r"\S{}",
    "…": r"\ldots{}",
    "·": r"\textperiodcentered{}",
    "\u00a0": "~",
}

#: Letters beyond ASCII that LaTeX's oldest font encoding can print, by itself or as a letter and an accent.
_LETTERS = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ")

_TEMPLATE = r"""% Needs \usepackage{booktabs} in the preamble, and no other package.
\BLOCK{for part in parts}
\begin{\VAR{environment}}[t]
\centering
\BLOCK{if loop.first}
\caption{\textbf{\VAR{title}} \VAR{caption}}
\label{\VAR{label}}
\BLOCK{else}
\addtocounter{table}{-1}
\caption{\textbf{\VAR{title}} (continued)}
\BLOCK{endif}
\medskip
\\VAR{size}
\setlength{\tabcolsep}{4pt}
\begin{tabular}{@{}\VAR{part.alignment}@{}}
\toprule
\BLOCK{for line in part.head}
\VAR{line}
\BLOCK{endfor}
\midrule
\BLOCK{for line in part.body}
\VAR{line}
\BLOCK{endfor}
\bottomrule
\end{tabular}
\BLOCK{if notes and loop.last}

\medskip
\begin{minipage}{\linewidth}\footnotesize\raggedright
\BLOCK{for note in notes}
\VAR{note}\BLOCK{if not loop.last}\\\BLOCK{endif}

\BLOCK{endfor}
\end{minipage}
\BLOCK{endif}
\end{\VAR{environment}}
\BLOCK{endfor}
"""

#: The text block of the paper's style (AISTATS), 6.75 inches wide.
_DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage{booktabs}
\setlength{\textwidth}{6.75in}
\setlength{\textheight}{9.25in}
\setlength{\oddsidemargin}{-0.125in}
\setlength{\topmargin}{-0.6in}
\renewcommand{\topfraction}{0.98}
\renewcommand{\textfraction}{0.02}
\begin{document}
%s
\end{document}
"""

#: Sizes of type that a table is set in, the largest that fits: LaTeX's name and the width of a digit in points.
_SIZES = (("small", 4.63), ("footnotesize", 4.25), ("scriptsize", 3.99))
#: Width of the paper's text in points (6.75 inches), and of one of its two columns.
_TEXT_WIDTH, _COLUMN_WIDTH = 487.8, 234.9
#: Points between two columns: twice the table's \tabcolsep.
_GAP = 8.0
#: Widths of characters of Computer Modern beside that of a digit, rounded up; lower case and all others are 1.05.
_WIDTHS = {**dict.fromkeys("0123456789", 1.0), **dict.fromkeys(".,:;il' /()", 0.8), "±": 1.6, "Δ": 1.7, "–": 1.0}
_WIDE = dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZmw—−=+", 1.65)
_BOLD, _MARK = 1.18, 0.85


def escape(text: str) -> str:
    """Return plain text as LaTeX; characters that the usual fonts lack become their code point."""
    return "".join(_SPECIAL.get(character) or _character(character) for character in text)


def _character(character: str) -> str:
    """Return a character that has no meaning of its own in LaTeX as something every font has."""
    if " " <= character <= "~":
        return character
    if unicodedata.category(character)[0] in "CZ":
        return " "
    if character in _LETTERS:
        return character
    plain = unicodedata.normalize("NFKD", character)
    ascii_only = "".join(part for part in plain if " " <= part <= "~" and part not in _SPECIAL)
    return ascii_only or rf"\texttt{{U+{ord(character):04X}}}"


@lru_cache(maxsize=1)
def _template() -> Template:
    """Return the table template; its delimiters are LaTeX commands, so that it reads as LaTeX."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\COMMENT{",
        comment_end_string="}",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        undefined=StrictUndefined,
    )
    return environment.from_string(_TEMPLATE)


def latex_table(table: ReportTable, published: bool = False) -> str:
    """Return the table as LaTeX floats; with ``published``, the paper's numbers stand under each row of ours."""
    spec = table.spec
    size, parts = _fitted(table, published)
    return _template().render(
        environment="table*" if spec.format.wide else "table",
        title=escape(spec.title),
        caption=escape(caption(table)),
        label=spec.label,
        size=size,
        parts=[
            {
                "alignment": "l" * _label_columns(table) + "c" * len(columns),
                "head": _head(table, columns),
                "body": _body(table, columns, published),
            }
            for columns in parts
        ],
        notes=[escape(note) for note in notes(table, published)],
    )


def latex_facsimile(table: ReportTable) -> str:
    """Return the published numbers of a table as the paper prints them, an empty text if it has none."""
    spec = table.spec
    rows = [row for row, own in enumerate(spec.rows) if own.published]
    columns = [column for column, own in enumerate(spec.columns) if own.published and not own.extended]
    if not any(cell.published for cell in table.cells):
        return ""
    lines: list[str] = []
    for section in range(len(spec.sections)):
        lines += [r"\midrule"] if section else []
        for position, row in enumerate(rows):
            first = [escape(spec.sections[section].label if position == 0 else "")] * (_label_columns(table) - 1)
            cells = [table.cell(section, row, column) for column in columns]
            values = [cell.published for cell in cells]
            theirs = [escape(published_text(value, value.sd_below)) if value else "" for value in values]
            lines.append(_line([*first, escape(spec.rows[row].label), *theirs]))
    alignment = "l" * _label_columns(table) + "c" * len(columns)
    tabular = "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            *_head(table, columns),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
    bounds = {cell.published.sd_below or 0.0 for cell in table.cells if cell.published} - {0.0}
    delta = "".join(f" $\\Delta < {decimal_text(bound)}$." for bound in sorted(bounds))
    title = rf"\textbf{{The paper's Table {spec.number}, as printed.}}{delta}"
    return rf"\begin{{center}}\small\setlength{{\tabcolsep}}{{4pt}}{title}\\[1ex]" + f"\n{tabular}\n" + r"\end{center}"


def latex_document(tables: Sequence[ReportTable], published: bool = False) -> str:
    """Return a LaTeX document of tables under the paper's numbers (S if it has none), each beside what it printed."""
    pages = []
    for table in tables:
        number = table.spec.number
        numbering = r"\arabic{table}" if number is not None else r"S\arabic{table}"
        counter = rf"\setcounter{{table}}{{{(number or 1) - 1}}}\renewcommand{{\thetable}}{{{numbering}}}"
        pages.append(f"{counter}\n{latex_table(table, published)}{latex_facsimile(table)}\n\\null\n")
    return _DOCUMENT % "\\clearpage\n".join(pages)


def _fitted(table: ReportTable, published: bool) -> tuple[str, list[list[int]]]:
    """Return the size of type, and the columns of each part: all in one if they fit at 7 points or more."""
    every = list(range(len(table.spec.columns)))
    room = _TEXT_WIDTH if table.spec.format.wide else _COLUMN_WIDTH
    widths = _widths(table, published)
    labels = sum(widths[: -len(every)])
    columns = widths[-len(every) :]
    for size, digit in _SIZES:
        if digit * sum(widths) + _GAP * (len(widths) - 1) <= room:
            return size, [every]
    size, digit = _SIZES[1]
    left = room - digit * labels - _GAP * (_label_columns(table) - 1)
    parts: list[list[int]] = [[]]
    taken, start = 0.0, 0
    for _, span in column_groups(table.spec.columns):
        group = every[start : start + span]
        start += span
        needed = [digit * columns[column] + _GAP for column in group]
        # A group that fits into a part of its own is not torn apart.
        if parts[-1] and taken + sum(needed) > left and sum(needed) <= left:
            parts.append([])
            taken = 0.0
        for column, need in zip(group, needed, strict=True):
            if parts[-1] and taken + need > left:
                parts.append([])
                taken = 0.0
            parts[-1].append(column)
            taken += need
    return size, parts


def _widths(table: ReportTable, published: bool) -> list[float]:
    """Return the width of each column, those of labels first, in digits."""
    spec = table.spec
    rows, sections = range(len(spec.rows)), range(len(spec.sections))
    labels = [[CellText(spec.format.section_heading), *(section_label(table, section) for section in sections)]]
    labels = labels if _label_columns(table) == 2 else []
    indent = CellText(f"mm{PUBLISHED_LABEL}") if published else CellText("")
    labels.append([CellText(spec.format.row_heading), indent, *(row_label(table, row) for row in rows)])
    widths = [max(map(_width, column)) for column in labels]
    for column in range(len(spec.columns)):
        cells = [table.cell(section, row, column) for section in sections for row in rows]
        texts = [column_label(table, column), *(cell_text(table, cell, published) for cell in cells)]
        texts += [published_cell(table, cell) for cell in cells if published]
        widths.append(max(map(_width, texts)))
    start = len(labels)
    for name, span in column_groups(spec.columns):
        own = widths[start : start + span]
        lacking = _width(CellText(name)) - sum(own) - 2.0 * (span - 1)
        if lacking > 0:
            widths[start : start + span] = [width + lacking / span for width in own]
        start += span
    return widths


def _width(text: CellText) -> float:
    """Return the width of a text in digits, rather too much than too little."""
    own = sum(_WIDTHS.get(character) or _WIDE.get(character) or 1.05 for character in text.text)
    return own * (_BOLD if text.bold else 1.0) + _MARK * len(text.marks)


def _label_columns(table: ReportTable) -> int:
    """Return how many columns of labels there are."""
    return 2 if table.spec.has_section_labels else 1


def _text(text: CellText, italic: bool = False) -> str:
    """Return a text with its typography."""
    escaped = escape(text.text)
    if text.bold:
        escaped = rf"{{\boldmath\textbf{{{escaped}}}}}"
    if italic:
        escaped = rf"\textit{{{escaped}}}"
    return escaped + (rf"\textsuperscript{{{escape(text.marks)}}}" if text.marks else "")


def _line(cells: Sequence[str]) -> str:
    """Return one line of the table."""
    return " & ".join(cells) + r" \\"


def _head(table: ReportTable, columns: Sequence[int]) -> list[str]:
    """Return the header of some columns: the shared headers with their rules, if there are any, and their own."""
    spec = table.spec
    label_columns = _label_columns(table)
    headings = ([escape(spec.format.section_heading)] if label_columns == 2 else []) + [escape(spec.format.row_heading)]
    own = _line(headings + [_text(column_label(table, column)) for column in columns])
    groups = column_groups([spec.columns[column] for column in columns])
    if not any(name for name, _ in groups):
        return [own]
    shared, rules, position = [""] * label_columns, [], label_columns + 1
    for name, size in groups:
        shared.append(rf"\multicolumn{{{size}}}{{c}}{{{escape(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{position}-{position + size - 1}}}")
        position += size
    return [_line(shared), "".join(rules), own]


def _body(table: ReportTable, columns: Sequence[int], published: bool) -> list[str]:
    """Return the lines of all sections."""
    spec = table.spec
    label_columns = _label_columns(table)
    lines: list[str] = []
    for section in range(len(spec.sections)):
        if section:
            lines.append(r"\midrule")
        for row in range(len(spec.rows)):
            first = [_text(section_label(table, section)) if row == 0 else ""] if label_columns == 2 else []
            italic = spec.rows[row].reference or spec.rows[row].floor
            cells = [table.cell(section, row, column) for column in columns]
            label = _text(row_label(table, row), italic)
            lines.append(_line([*first, label, *(_text(cell_text(table, cell, published)) for cell in cells)]))
            if published and any(cell.published for cell in cells):
                theirs = [_text(published_cell(table, cell)) for cell in cells]
                lines.append(_line([*[""] * (label_columns - 1), rf"\quad {PUBLISHED_LABEL}", *theirs]))
            if published and row < len(spec.rows) - 1:
                lines.append(r"\addlinespace[2pt]")
    return lines
