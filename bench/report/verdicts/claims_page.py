"""Verdicts on claims for a terminal: the sentence, its verdict under each parameter set, and the numbers behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from bench.errors import printable
from bench.report.verdicts.claims import CLAIM_VERDICTS, EQUIVALENT, JudgedClaim, seeds_for

if TYPE_CHECKING:
    from rich.console import Console

#: The sign before a verdict.
CLAIM_MARKS = {"holds": "+", "does not hold": "-", "undecided": "?", "not run": "."}


def print_claims(judged: Sequence[JudgedClaim], console: Console) -> None:
    """Print the verdicts on claims, claim by claim, and how many there are of each."""
    from rich.text import Text

    for _, own in groupby(judged, key=lambda each: (each.table.spec.id, each.claim.id)):
        verdicts = list(own)
        first = verdicts[0]
        console.print(Text(printable(f"Table {first.table.spec.number}: {first.claim.text}"), style="bold"))
        for each in verdicts:
            for line in claim_lines(each):
                console.print(Text(printable(line)))
        console.print()
    counts = Counter(each.verdict for each in judged)
    console.print(
        Text(f"{len(judged)} verdicts: " + ", ".join(f"{counts[v]} {v}" for v in CLAIM_VERDICTS if counts[v]) + ".")
    )


def claim_lines(each: JudgedClaim) -> Iterator[str]:
    """Yield the lines on a claim under one parameter set: verdict, numbers, and the command that computes the rest."""
    preset = f", {each.table.preset}" if each.table.preset else ""
    yield f"  {CLAIM_MARKS[each.verdict]} {each.verdict} ({each.table.parameter_set}{preset}): {each.why}"
    if each.verdict == "not run":
        yield f"      {each.command}"
        return
    known = [(contrast.name, contrast.estimate) for contrast in each.contrasts]
    means = {name: estimate for name, estimate in known if estimate is not None}
    if means:
        least, most = (pick(means, key=lambda name: means[name].mean) for pick in (min, max))
        for words, name in (("most for it", least), ("most against it", most)):
            low, high = means[name].interval()
            yield f"      {words}: {name}: {means[name].mean:+.3f} [{low:+.3f}, {high:+.3f}] of the floor's error"
    if each.equivalences:
        listed = ", ".join(
            f"{own.against} {own.better:.2f} / {own.equal:.2f} / {own.worse:.2f}" for own in each.equivalences
        )
        columns = each.equivalences[0].columns
        opening = f"over {columns} columns, probably better / within {100 * EQUIVALENT:g} % of the floor / worse than"
        yield f"      {opening} {listed}"
    if each.verdict == "undecided" and each.seeds < len(seeds_for(each.table.parameter_set)):
        yield f"      {each.command}"
