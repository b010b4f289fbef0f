"""From results to tables, pictures and the comparison with the published numbers. Knows no runner and no method."""

from __future__ import annotations

from pathlib import Path

from bench.report.cell import ReportCell
from bench.report.published import PublishedValue, read_published
from bench.report.table import ReportTable, asked_of_store, collect

__all__ = [
    "PublishedValue",
    "ReportCell",
    "ReportTable",
    "asked_of_store",
    "collect",
    "read_published",
    "write_report",
]


def write_report(table: ReportTable, folder: Path, published: bool = True, plot: bool = True) -> list[Path]:
    """Write a table as LaTeX, Markdown and CSV, and its plot as PNG, PDF and SVG, into ``folder``; returns the files.

    The files are named after the table's id. ``published`` adds the paper's numbers to LaTeX and Markdown.
    """
    from bench.report.csv import csv_table
    from bench.report.latex import latex_table
    from bench.report.markdown import markdown_table

    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "tex": latex_table(table, published),
        "md": markdown_table(table, published),
        "csv": csv_table(table),
    }
    written: list[Path] = []
    for suffix, text in texts.items():
        path = folder / f"{table.spec.id}.{suffix}"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    if plot:
        from bench.report.figures.table_dots import plot_table

        written += plot_table(table, folder / table.spec.id)
    return written
