"""Every published number beside ours: one verdict per number, and one on the order of each column of unknown unit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.experiment.specs import PublishedKey
from bench.report.cell import ReportCell
from bench.report.published import PublishedValue
from bench.report.rules.cells import UNKNOWN_UNIT, VERDICTS, Comparison, Verdict
from bench.report.rules.intervals import Estimate
from bench.report.rules.orders import Order, order_of
from bench.report.table import ReportTable


@dataclass(frozen=True)
class Candidate:
    """One of our cells that a published number stands beside, and what holds between the two."""

    table: ReportTable
    cell: ReportCell
    comparison: Comparison

    @property
    def column(self) -> str:
        """The names of section and column."""
        spec = self.table.spec
        return f"{spec.sections[self.cell.spec.section].label} {spec.columns[self.cell.spec.column].name}".strip()

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of our mean, None with fewer than two seeds."""
        return Estimate.of_values(self.cell.values).interval() if self.cell.n > 1 else None

    @property
    def command(self) -> str:
        """The command that computes our number again."""
        spec = self.table.spec
        command = f"vsae-bench run {spec.id} --methods {self.cell.spec.method} --datasets {self.cell.spec.dataset}"
        seeds = ",".join(map(str, self.cell.seeds or spec.seeds))
        parameters = "" if self.table.parameter_set == "default" else f" --parameters {self.table.parameter_set}"
        return f"{command} --preset {self.table.preset or 'quick'}{parameters} --seeds {seeds} --rerun"


@dataclass(frozen=True)
class Judgement:
    """A published number and the verdict on it: that of our cells beside it, or undecided if they do not agree."""

    key: PublishedKey
    published: PublishedValue
    candidates: tuple[Candidate, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the number."""
        found = {candidate.comparison.verdict for candidate in self.candidates}
        return found.pop() if len(found) == 1 else "undecided"

    @property
    def why(self) -> str:
        """Why the verdict is this one, an empty text if the numbers say it."""
        if len({candidate.comparison.verdict for candidate in self.candidates}) > 1:
            each = "; ".join(f"{own.column}: {own.comparison.verdict}" for own in self.candidates)
            return f"the paper's column may be either of ours, which differ ({each})"
        return self.candidates[0].comparison.why


@dataclass(frozen=True)
class ColumnOrder:
    """A column whose unit is not known, and what holds of the order of its methods."""

    table: str
    column: str
    order: Order


@dataclass(frozen=True)
class Judged:
    """The verdicts on all published numbers of some tables, and on the orders of their columns of unknown unit."""

    judgements: tuple[Judgement, ...]
    orders: tuple[ColumnOrder, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many numbers have each verdict, in the order of ``VERDICTS``."""
        found = Counter(judgement.verdict for judgement in self.judgements)
        return {verdict: found[verdict] for verdict in VERDICTS}


def judge(tables: Iterable[ReportTable]) -> Judged:
    """Return the verdicts on the published numbers that tables show."""
    candidates: dict[PublishedKey, list[Candidate]] = defaultdict(list)
    orders: list[ColumnOrder] = []
    for table in tables:
        for cell in table.cells:
            comparison = table.comparison(cell)
            if comparison is not None and cell.spec.published is not None:
                candidates[cell.spec.published].append(Candidate(table, cell, comparison))
        orders += _orders(table)
    judgements = [
        Judgement(key, own[0].cell.published, tuple(own))
        for key, own in candidates.items()
        if own[0].cell.published is not None
    ]
    return Judged(tuple(judgements), tuple(orders))


def _orders(table: ReportTable) -> list[ColumnOrder]:
    """Return the verdicts on the columns of a table whose published unit is not known."""
    columns: dict[tuple[int, int], list[tuple[str, ReportCell]]] = defaultdict(list)
    for cell in table.cells:
        if cell.published is not None and cell.spec.published and cell.spec.published.metric == UNKNOWN_UNIT:
            columns[cell.spec.section, cell.spec.column].append((table.spec.rows[cell.spec.row].label, cell))
    found = []
    for (section, column), labelled in columns.items():
        name = f"{table.spec.sections[section].label} {table.spec.columns[column].name}".strip()
        found.append(ColumnOrder(table.spec.id, name, order_of(labelled)))
    return found


def as_json(judged: Judged) -> dict[str, Any]:
    """Return all verdicts as plain JSON values."""
    return {
        "counts": dict(judged.counts),
        "numbers": [_number_as_json(judgement) for judgement in judged.judgements],
        "orders": [
            {
                "table": own.table,
                "column": own.column,
                **vars(own.order),
                "contradictions": [list(pair) for pair in own.order.contradictions],
            }
            for own in judged.orders
        ],
    }


def _number_as_json(judgement: Judgement) -> Mapping[str, Any]:
    """Return one published number with its verdict."""
    published = judgement.published
    return {
        **vars(judgement.key),
        "published": {"mean": published.mean, "sd": published.sd, "sd_below": published.sd_below},
        "verdict": judgement.verdict,
        "why": judgement.why,
        "ours": [_candidate_as_json(candidate) for candidate in judgement.candidates],
    }


def _candidate_as_json(candidate: Candidate) -> Mapping[str, Any]:
    """Return one of our cells beside a published number."""
    cell, interval = candidate.cell, candidate.interval
    return {
        "table": candidate.table.spec.id,
        "row": candidate.table.spec.rows[cell.spec.row].label,
        "column": candidate.column,
        "dataset": cell.spec.dataset,
        "preset": candidate.table.preset,
        "parameter_set": candidate.table.parameter_set,
        "seeds": list(cell.seeds),
        "mean": cell.mean,
        "interval": None if interval is None else list(interval),
        "floor": cell.floor,
        **vars(candidate.comparison),
        "command": candidate.command,
    }


def require(judged: Judged, demands: Sequence[tuple[str, str, int]]) -> list[str]:
    """Return a line per demand that is not met; a demand is (verdict, ">=" or "<=" or "=", number)."""
    lines = []
    for verdict, sign, number in demands:
        count = dict(judged.counts)[verdict]  # type: ignore[index]
        met = {">=": count >= number, "<=": count <= number, "=": count == number}[sign]
        if not met:
            lines.append(f"required {verdict} {sign} {number}, and it is {count}")
    return lines
