"""Whether the paper's conclusions hold: each claim is a set of contrasts, and each contrast a test over seeds.

A contrast is a number per seed that the claim says is below zero: a difference of errors on the same split and mask, in
units of the floor's error in that column. Seeds share rows, so the test is Nadeau and Bengio's corrected one; Holm's
correction is for all contrasts of a claim. A claim *holds* if every contrast is clearly below zero (2.5 %), *does not
hold* if one is clearly above, and is *undecided* else, or with fewer seeds than ``SEEDS_NEEDED``.

Beside it stands a Bayesian signed-rank test over columns with a region of practical equivalence (Benavoli et al., JMLR
18, 2017; the package baycomp): the probabilities that the row is better than another one, as good within 1 % of the
floor's error, or worse, on a column like these. It says how large a difference is; with so few columns it decides
nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.errors import BenchError, closest
from bench.experiment.tuned import TUNED
from bench.report.cell import ReportCell
from bench.report.rules.intervals import CONFIDENCE, Estimate, holm
from bench.report.table import ReportTable
from bench.report.verdicts.claim_specs import Claim, ClaimSpec

ClaimVerdict = Literal["holds", "does not hold", "undecided", "not run"]
CLAIM_VERDICTS: tuple[ClaimVerdict, ...] = ("holds", "does not hold", "undecided", "not run")
#: Parameter sets are tuned on these seeds, and judged on the others.
TUNING_SEEDS, JUDGED_SEEDS = range(3), range(3, 10)
ALL_SEEDS = range(10)
#: Half the width of the region of practical equivalence, in units of the floor's error, and the columns it takes.
EQUIVALENT, COLUMNS_NEEDED = 0.01, 3
#: The size of the Bayesian test's Monte Carlo sample, which makes probabilities right to about .01, and its seed.
SAMPLE, SAMPLE_SEED = 10_000, 0


def seeds_for(parameter_set: str) -> range:
    """Return the seeds that claims are judged on: those not used for tuning, or all ten."""
    return JUDGED_SEEDS if parameter_set == TUNED else ALL_SEEDS


@dataclass(frozen=True)
class Contrast:
    """One of the numbers that a claim says are below zero, per seed, in units of the floor's error."""

    name: str
    values: tuple[float, ...]

    @property
    def estimate(self) -> Estimate | None:
        """The mean over seeds with its error, None with fewer than two."""
        return Estimate.of_values(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Equivalence:
    """The probabilities that the row of a claim is better than another row, as good, or worse, over columns."""

    against: str
    columns: int
    better: float
    equal: float
    worse: float


@dataclass(frozen=True)
class JudgedClaim:
    """A claim about a table, its verdict under a parameter set, and what it rests on.

    ``supporting`` and ``against`` are the contrasts that are clearly below and above zero.
    """

    claim: Claim
    table: ReportTable
    verdict: ClaimVerdict
    why: str
    contrasts: tuple[Contrast, ...]
    supporting: tuple[str, ...]
    against: tuple[str, ...]
    equivalences: tuple[Equivalence, ...] = ()

    @property
    def seeds(self) -> int:
        """The fewest seeds behind a contrast that has any."""
        return min((len(contrast.values) for contrast in self.contrasts if contrast.values), default=0)

    @property
    def command(self) -> str:
        """The command that computes what is missing."""
        parameters = self.table.parameter_set
        own = "" if parameters == "default" else f" --parameters {parameters}"
        seeds = seeds_for(parameters)
        preset = self.table.preset or "quick"
        return f"vsae-bench run {self.table.spec.id} --preset {preset}{own} --seeds {seeds[0]}-{seeds[-1]}"


def judge_claims(spec: ClaimSpec, table: ReportTable) -> list[JudgedClaim]:
    """Return the verdicts on the claims about a table. Raises BenchError if one names a row or column it lacks."""
    return [judge_claim(claim, table) for claim in spec.claims]


def judge_claim(claim: Claim, table: ReportTable) -> JudgedClaim:
    """Return the verdict on one claim."""
    contrasts = tuple(_CONTRASTS[claim.kind](claim, table))
    estimates = [contrast.estimate for contrast in contrasts]
    below = [1.0 if estimate is None else estimate.probability_above() for estimate in estimates]
    above = [1.0 if estimate is None else 1 - estimate.probability_above() for estimate in estimates]
    level = (1 - CONFIDENCE) / 2
    supporting = tuple(contrast.name for contrast, p in zip(contrasts, holm(below), strict=True) if p < level)
    against = tuple(contrast.name for contrast, p in zip(contrasts, holm(above), strict=True) if p < level)
    verdict, why = _verdict(table.parameter_set, contrasts, supporting, against)
    equivalences = tuple(_equivalences(claim, table)) if claim.kind == "below" else ()
    return JudgedClaim(claim, table, verdict, why, contrasts, supporting, against, equivalences)


def _verdict(
    parameter_set: str, contrasts: Sequence[Contrast], supporting: Sequence[str], against: Sequence[str]
) -> tuple[ClaimVerdict, str]:
    """Return what the contrasts say of a claim, and why."""
    needed = len(seeds_for(parameter_set))
    counts = [len(contrast.values) for contrast in contrasts]
    if not any(counts):
        return "not run", "no rows of it"
    if fewer := [count for count in counts if count < needed]:
        where = f"{min(fewer)} seeds in {len(fewer)} of {len(counts)} contrasts"
        return "undecided", f"{where}, and a verdict needs {needed}"
    if against:
        return "does not hold", f"{len(against)} of {len(contrasts)} contrasts are clearly the other way"
    if len(supporting) == len(contrasts):
        return "holds", f"all {len(contrasts)} contrasts"
    return "undecided", f"{len(supporting)} of {len(contrasts)} contrasts are clearly so, none the other way"


def _rows_of(claim: Claim, table: ReportTable) -> tuple[int, list[int]]:
    """Return the index of a claim's row and of those that it is compared with; raises BenchError."""
    rows = table.spec.rows
    labels = [row.label for row in rows]
    for label in (claim.row, *claim.against):
        if label not in labels:
            raise BenchError(f"claim '{claim.id}': {table.spec.id} has no row '{label}'.{closest(label, labels)}")
    others = claim.against or [row.label for row in rows if row.published and row.label != claim.row]
    return labels.index(claim.row), [labels.index(label) for label in others]


def _columns_of(claim: Claim, table: ReportTable, name: str = "") -> list[tuple[int, int]]:
    """Return (section, column) of the cells with published numbers, or of those under a name; raises BenchError."""
    row, _ = _rows_of(claim, table)
    found = [
        (cell.spec.section, cell.spec.column)
        for cell in table.cells
        if cell.spec.row == row and cell.spec.published is not None
    ]
    if name:
        columns = table.spec.columns
        found = [place for place in found if name in (columns[place[1]].group, columns[place[1]].label)]
    if not found:
        raise BenchError(f"claim '{claim.id}': {table.spec.id} has no published column '{name}'")
    return found


def _relative(table: ReportTable, row: int, place: tuple[int, int]) -> dict[int, float]:
    """Return seed -> error of a row in a column, in units of the floor's error on the same seed."""
    section, column = place
    own, floor = (_by_seed(table.cell(section, index, column)) for index in (row, table.spec.floor_row or 0))
    return {seed: value / floor[seed] for seed, value in own.items() if floor.get(seed)}


def _by_seed(cell: ReportCell) -> dict[int, float]:
    return dict(zip(cell.seeds, cell.values, strict=True))


def _below(claim: Claim, table: ReportTable) -> Iterator[Contrast]:
    """Yield, per column and other row, the row's error less the other's."""
    row, others = _rows_of(claim, table)
    for place in _columns_of(claim, table):
        own = _relative(table, row, place)
        for other in others:
            theirs = _relative(table, other, place)
            values = tuple(own[seed] - theirs[seed] for seed in own if seed in theirs)
            yield Contrast(f"{_name(table, place)}, {table.spec.rows[other].label}", values)


def _gap_grows(claim: Claim, table: ReportTable) -> Iterator[Contrast]:
    """Yield, per pair of columns and other row, the distance to the other row in the first less that in the second."""
    row, others = _rows_of(claim, table)
    pairs = zip(_columns_of(claim, table, claim.start), _columns_of(claim, table, claim.end), strict=True)
    for first, second in pairs:
        for other in others:
            own, theirs = ([_relative(table, index, place) for place in (first, second)] for index in (row, other))
            shared = [seed for seed in own[0] if all(seed in values for values in (*own, *theirs))]
            values = tuple((theirs[0][seed] - own[0][seed]) - (theirs[1][seed] - own[1][seed]) for seed in shared)
            yield Contrast(f"{_name(table, second)}, {table.spec.rows[other].label}", values)


_CONTRASTS = {"below": _below, "gap_grows": _gap_grows}


def _name(table: ReportTable, place: tuple[int, int]) -> str:
    """Return the name of a column."""
    return f"{table.spec.sections[place[0]].label} {table.spec.columns[place[1]].name}".strip()


def _equivalences(claim: Claim, table: ReportTable) -> Iterator[Equivalence]:
    """Yield the Bayesian comparison over columns with each other row that has enough of them."""
    row, others = _rows_of(claim, table)
    for other in others:
        pairs = []
        for place in _columns_of(claim, table):
            own, theirs = (_relative(table, index, place) for index in (row, other))
            if shared := [seed for seed in own if seed in theirs]:
                pairs.append(tuple(statistics.fmean(values[seed] for seed in shared) for values in (own, theirs)))
        if len(pairs) >= COLUMNS_NEEDED:
            import numpy as np
            from baycomp import SignedRankTest

            mine, others_errors = np.array(pairs).T
            # baycomp's first is the probability that its first argument, here an error, is the higher one.
            sampled = {"nsamples": SAMPLE, "random_state": SAMPLE_SEED}
            worse, equal, better = SignedRankTest.probs(mine, others_errors, rope=EQUIVALENT, **sampled)
            yield Equivalence(table.spec.rows[other].label, len(pairs), float(better), float(equal), float(worse))


def as_json(judged: Sequence[JudgedClaim]) -> list[Mapping[str, Any]]:
    """Return verdicts on claims as plain JSON values."""
    return [
        {
            "table": own.table.spec.id,
            "claim": own.claim.id,
            "text": own.claim.text,
            "kind": own.claim.kind,
            "preset": own.table.preset,
            "parameter_set": own.table.parameter_set,
            "verdict": own.verdict,
            "why": own.why,
            "seeds": own.seeds,
            "contrasts": [_contrast_as_json(contrast) for contrast in own.contrasts],
            "supporting": list(own.supporting),
            "against": list(own.against),
            "over_columns": [vars(each) for each in own.equivalences],
            "command": own.command,
        }
        for own in judged
    ]


def _contrast_as_json(contrast: Contrast) -> Mapping[str, Any]:
    """Return a contrast with its mean and 95 % interval, in units of the floor's error."""
    estimate = contrast.estimate
    return {
        "name": contrast.name,
        "seeds": len(contrast.values),
        "mean": None if estimate is None else estimate.mean,
        "interval": None if estimate is None else list(estimate.interval()),
    }
