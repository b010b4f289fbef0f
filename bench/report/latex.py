"""A table as LaTeX in the paper's layout: caption, label, booktabs, notes below. Needs booktabs and graphicx."""

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
    notes,
    published_line,
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

_TEMPLATE = r"""\begin{\VAR{environment}}[t]
\centering
\caption{\textbf{\VAR{title}} \VAR{caption}}
\label{\VAR{label}}
\smallskip
\small
\sbox0{%
\begin{tabular}{\VAR{alignment}}
\toprule
\BLOCK{for line in head}
\VAR{line}
\BLOCK{endfor}
\midrule
\BLOCK{for line in body}
\VAR{line}
\BLOCK{endfor}
\bottomrule
\end{tabular}}%
\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi
\BLOCK{if notes}

\medskip
\begin{minipage}{\linewidth}\footnotesize\raggedright
\BLOCK{for note in notes}
\VAR{note}\BLOCK{if not loop.last}\\\BLOCK{endif}

\BLOCK{endfor}
\end{minipage}
\BLOCK{endif}
\end{\VAR{environment}}
"""

_DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\begin{document}
%s
\end{document}
"""


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
    """Return the table as a LaTeX float; with ``published``, the paper's numbers stand under each row of ours."""
    spec = table.spec
    label_columns = 2 if spec.has_section_labels else 1
    return _template().render(
        environment="table*" if spec.format.wide else "table",
        title=escape(spec.title),
        caption=escape(caption(table)),
        label=spec.label,
        alignment="l" * label_columns + "c" * len(spec.columns),
        head=_head(table, label_columns),
        body=_body(table, label_columns, published),
        notes=[_note(note) for note in notes(table)],
    )


def latex_document(tables: Sequence[ReportTable], published: bool = False) -> str:
    """Return a LaTeX document that holds the tables under the paper's numbers (S if it has none), one per page."""
    pages = []
    for table in tables:
        number = table.spec.number
        numbering = r"\arabic{table}" if number is not None else r"S\arabic{table}"
        counter = rf"\setcounter{{table}}{{{(number or 1) - 1}}}\renewcommand{{\thetable}}{{{numbering}}}"
        pages.append(f"{counter}\n{latex_table(table, published)}")
    return _DOCUMENT % "\\clearpage\n".join(pages)


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


def _head(table: ReportTable, label_columns: int) -> list[str]:
    """Return the header: the shared headers with their rules, if there are any, and the columns' own."""
    spec = table.spec
    headings = ([escape(spec.format.section_heading)] if label_columns == 2 else []) + [escape(spec.format.row_heading)]
    own = _line(headings + [_text(column_label(table, column)) for column in range(len(spec.columns))])
    groups = column_groups(spec.columns)
    if not any(name for name, _ in groups):
        return [own]
    shared, rules, position = [""] * label_columns, [], label_columns + 1
    for name, size in groups:
        shared.append(rf"\multicolumn{{{size}}}{{c}}{{{escape(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{position}-{position + size - 1}}}")
        position += size
    return [_line(shared), "".join(rules), own]


def _body(table: ReportTable, label_columns: int, published: bool) -> list[str]:
    """Return the lines of all sections."""
    spec = table.spec
    lines: list[str] = []
    for section in range(len(spec.sections)):
        if section:
            lines.append(r"\midrule")
        for row in range(len(spec.rows)):
            first = [_text(section_label(table, section)) if row == 0 else ""] if label_columns == 2 else []
            italic = spec.rows[row].reference or spec.rows[row].floor
            cells = table.line(section, row)
            label = _text(row_label(table, row), italic)
            lines.append(_line([*first, label, *(_text(cell_text(table, cell)) for cell in cells)]))
            if published and any(cell.published for cell in cells):
                theirs = [escape(text) for text in published_line(table, cells)]
                lines.append(_line([*[""] * (label_columns - 1), rf"\quad {PUBLISHED_LABEL}", *theirs]))
            if published and row < len(spec.rows) - 1:
                lines.append(r"\addlinespace")
    return lines


def _note(note: CellText) -> str:
    """Return a note, its mark first."""
    mark = rf"\textsuperscript{{{escape(note.marks)}}}\," if note.marks else ""
    return mark + escape(note.text)
