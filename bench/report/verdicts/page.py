"""Verdicts on a terminal: a line per published number, a line per order, and the counts at the end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from bench.errors import printable
from bench.report.rules.cells import MARKS, VERDICTS, Verdict
from bench.report.text import heading, number_text, precision_words, published_text
from bench.report.verdicts.compare import Candidate, ColumnOrder, Judged, Judgement

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHORT = {"no better than the floor in the paper": "paper at floor"}


def print_judged(judged: Judged, console: Console) -> None:
    """Print all verdicts, column by column of each table."""
    from rich.text import Text

    orders = {(own.table, own.column): own for own in judged.orders}
    columns: dict[tuple[str, str], list[tuple[Judgement, Candidate]]] = {}
    for judgement in judged.judgements:
        for candidate in judgement.candidates:
            place = candidate.table.spec.id, candidate.column
            columns.setdefault(place, []).append((judgement, candidate))
    for table, own in groupby(sorted(columns, key=lambda place: place[0]), key=lambda place: place[0]):
        places = list(own)
        shown = columns[places[0]][0][1].table
        console.print(Text(heading(shown), style="bold"))
        preset = "no stored rows yet" if shown.preset is None else f"preset {shown.preset}"
        console.print(Text(f"Ours: {preset}, parameter set {shown.parameter_set}{precision_words(shown)}."))
        for place in places:
            console.print()
            console.print(Text(printable(column_line(columns[place]))))
            console.print(_column(columns[place]))
            if (table, place[1]) in orders:
                console.print(Text(printable(order_line(orders[table, place[1]]))))
        console.print()
    for line in reasons(judged):
        console.print(Text(printable(line)), style="dim")
    for line in summary(judged):
        console.print(Text(line))


def column_line(column: list[tuple[Judgement, Candidate]]) -> str:
    """Return the heading of a column: its name and the floor."""
    candidate = column[0][1]
    floor = candidate.cell.floor
    return candidate.column + ("" if floor is None else f", floor {number_text(floor, candidate.cell.digits)}")


def _column(column: list[tuple[Judgement, Candidate]]) -> Table:
    """Return a column of a table with a line per method."""
    from rich.table import Table

    table = Table(box=None, pad_edge=True)
    table.add_column("method", no_wrap=True, min_width=12)
    for name in ("published", "ours, 95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for judgement, candidate in column:
        verdict = candidate.comparison.verdict
        table.add_row(
            printable(judgement.key.method),
            published_text(judgement.published, candidate.table.spec.format.delta),
            ours_text(candidate),
            f"{MARKS[verdict]} {SHORT.get(verdict, verdict)}",
        )
    return table


def ours_text(candidate: Candidate) -> str:
    """Return our mean with its interval, or a dash."""
    cell, interval = candidate.cell, candidate.interval
    if cell.mean is None:
        return "-"
    text = number_text(cell.mean, cell.digits)
    if interval is None:
        return text
    low, high = (number_text(bound, cell.digits) for bound in interval)
    return f"{text} [{low}, {high}]"


def order_line(own: ColumnOrder) -> str:
    """Return what holds of the order of a column, as one line."""
    order = own.order
    pairs = f"{order.as_published} pairs as published, {order.against} against it, {order.open} open"
    tau = "" if order.rank_correlation is None else f", Kendall's tau {order.rank_correlation:+.2f}"
    against = "".join(f"; {two} before {one}" for one, two in order.contradictions)
    return f"{own.column}, order of {order.methods} methods: {order.verdict} ({pairs}{tau}{against})"


def reasons(judged: Judged) -> Iterator[str]:
    """Yield each reason with the number of cells that have it."""
    seen: dict[tuple[Verdict, str], int] = {}
    for judgement in judged.judgements:
        if judgement.why:
            reason = judgement.verdict, judgement.why
            seen[reason] = seen.get(reason, 0) + 1
    for (verdict, why), count in seen.items():
        yield f"{MARKS[verdict]} {verdict}, {count}: {why}"


def summary(judged: Judged) -> list[str]:
    """Return how many numbers have each verdict, and how many orders."""
    counts = judged.counts
    numbers = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    verdicts = [own.order.verdict for own in judged.orders]
    orders = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    lines = [f"{len(judged.judgements)} published numbers: {numbers}."]
    return [*lines, f"{len(verdicts)} orders: {orders}."] if verdicts else lines
