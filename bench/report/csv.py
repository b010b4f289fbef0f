"""A table as CSV, one line per cell, with full precision: what a reader computes with."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from bench.errors import printable
from bench.report.cell import ReportCell
from bench.report.table import ReportTable
from bench.seeds import canonical_json

#: What a spreadsheet takes for the beginning of a formula.
FORMULA_SIGNS = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?")

#: What draws score in the rows behind a cell, whatever its own metric: means over the seeds.
DRAW_FIELDS = ("crps", "coverage_50", "coverage_90", "brier", "log_score", "energy_distance")
FIELDS = (
    "table",
    "section",
    "row",
    "column",
    "dataset",
    "content",
    "variant",
    "include_target",
    "mechanism",
    "mechanism_parameters",
    "ratio",
    "method",
    "parameters",
    "protocol",
    "attribute",
    "metric",
    "preset",
    "parameter_set",
    "precision",
    "status",
    "reason",
    "seeds",
    "n",
    "entries",
    "mean",
    "sd",
    "best",
    "published_mean",
    "published_sd",
    "published_sd_below",
    "difference",
    "floor",
    "verdict",
    "published_verdict",
    "comparison",
    "comparison_why",
    "difference_low",
    "difference_high",
    "margin",
    "disagreeing_presets",
    "undertrained",
    "collapsed",
    "kept_last",
    "stale",
    "unverified",
    "warnings",
    "processor_seconds",
    *DRAW_FIELDS,
)


def csv_table(table: ReportTable) -> str:
    """Return the table in long format; empty fields are what there is not.

    ``difference`` is ours minus published, and ``comparison`` the verdict of ``vsae-bench compare`` with the interval
    and the margin that give it. ``undertrained``, ``collapsed``, ``kept_last`` and ``stale`` list seeds.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for cell in table.cells:
        writer.writerow({name: plain(value) for name, value in record(table, cell).items()})
    return stream.getvalue()


def plain(value: object) -> object:
    """Return a field as a spreadsheet shows it: no text begins like a formula, and none has control characters."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text[:1] in FORMULA_SIGNS and not _NUMBER.fullmatch(text) else text


def record(table: ReportTable, cell: ReportCell) -> dict[str, object]:
    """Return one cell as a flat record."""
    spec, own, published = table.spec, cell.spec, cell.published
    comparison = table.comparison(cell)
    return {
        "table": spec.id,
        "section": spec.sections[own.section].label,
        "row": spec.rows[own.row].label,
        "column": spec.columns[own.column].name,
        "dataset": own.dataset,
        "content": cell.content,
        "variant": ("subset" if cell.subset else "full") if cell.content else "",
        "include_target": str(own.include_target).lower(),
        "mechanism": own.mechanism,
        "mechanism_parameters": canonical_json(dict(own.mechanism_parameters)),
        "ratio": own.ratio,
        "method": own.method,
        "parameters": canonical_json(dict(own.parameters)),
        "protocol": own.protocol,
        "attribute": own.attribute,
        "metric": own.metric,
        "preset": table.preset,
        "parameter_set": table.parameter_set,
        "precision": table.precision,
        "status": cell.status,
        "reason": cell.reason,
        "seeds": _seeds(cell.seeds),
        "n": cell.n,
        "entries": " ".join("" if count is None else str(count) for count in cell.entries).strip(),
        "mean": cell.mean,
        "sd": cell.sd,
        "best": str(cell.best).lower(),
        "published_mean": published.mean_text if published else None,
        "published_sd": published.sd_text if published else None,
        "published_sd_below": published.sd_below if published else None,
        "difference": cell.difference,
        "floor": cell.floor,
        "verdict": cell.verdict,
        "published_verdict": cell.published_verdict,
        "comparison": comparison.verdict if comparison else None,
        "comparison_why": comparison.why if comparison else None,
        "difference_low": comparison.low if comparison else None,
        "difference_high": comparison.high if comparison else None,
        "margin": comparison.margin if comparison else None,
        "disagreeing_presets": " ".join(cell.disagreeing),
        "undertrained": _seeds(cell.undertrained),
        "collapsed": _seeds(cell.collapsed),
        "kept_last": _seeds(cell.kept_last),
        "stale": _seeds(cell.stale),
        "unverified": cell.unverified,
        "warnings": "; ".join(cell.warnings),
        "processor_seconds": cell.processor_seconds,
        **{name: cell.draw_scores.get(name) for name in DRAW_FIELDS},
    }


def _seeds(seeds: Iterable[int]) -> str:
    """Return seeds with blanks between them."""
    return " ".join(map(str, seeds))
