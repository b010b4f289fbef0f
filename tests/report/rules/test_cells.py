"""The rules of a verdict on one published number, and that they see the floor."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from bench.experiment.reader import parse_spec
from bench.experiment.specs import TableSpec
from bench.report import ReportCell, collect
from bench.report.published import PublishedValue
from bench.report.rules.cells import VERDICTS, Comparison, comparison_of, verdict_of
from tests.report.golden import PUBLISHED, SPEC, key, seeds_of, stored


@pytest.mark.parametrize(
    ("low", "high", "lower", "higher"),
    [
        (-0.05, 0.1, "reproduced", "reproduced"),
        (-0.3, -0.11, "better", "worse"),
        (0.11, 0.3, "worse", "better"),
        (-0.3, 0.05, "undecided", "undecided"),
        (0.05, 0.2, "undecided", "undecided"),
        (-0.3, 0.3, "undecided", "undecided"),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, lower: str, higher: str) -> None:
    assert verdict_of(low, high, 0.1)[0] == lower
    assert verdict_of(low, high, 0.1, lower_is_better=False)[0] == higher
    assert {lower, higher} <= set(VERDICTS)


def test_why_it_is_undecided_tells_whether_seeds_would_help() -> None:
    assert verdict_of(-0.3, 0.3, 0.1)[1].startswith("too few seeds")
    assert verdict_of(0.05, 0.2, 0.1)[1] == "the interval crosses the margin"


def judged(values: list[float], floor: list[float], published: PublishedValue) -> tuple[ReportCell, Comparison]:
    """Return VSAE's cell on Mushroom and its comparison with a published number."""
    rows = [*seeds_of("vsae", "mushroom", "pfc", values), *seeds_of("mean_mode", "mushroom", "pfc", floor)]
    table = collect(parse_spec(SPEC, "t"), rows, {**PUBLISHED, key("VSAE", "Mushroom", "pfc"): published})
    cell = table.cell(0, 1, 2)
    comparison = comparison_of(cell)
    assert comparison is not None
    return cell, comparison


def test_the_interval_and_the_margin_are_those_of_the_docstring() -> None:
    values = [0.401, 0.403, 0.408]
    _, found = judged(values, [0.6] * 3, PublishedValue("0.400", "0.002"))
    assert found.margin == pytest.approx(0.1 * (0.6 - 0.4))
    ours, theirs = stats.tvar(values) * (1 / 3 + 0.25), 0.002**2 * (1 / 3 + 0.25)
    freedom = (ours + theirs) ** 2 / (ours**2 / 2 + theirs**2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(ours + theirs)
    assert (found.low, found.high) == pytest.approx((0.004 - half, 0.004 + half))
    assert found.verdict == "reproduced"
    # Of a bound nothing is known: the number is taken as it stands.
    _, bounded = judged(values, [0.6] * 3, PublishedValue("0.400", sd_below=0.01))
    half = stats.t.ppf(0.975, 2) * math.sqrt(ours)
    assert (bounded.low, bounded.high) == pytest.approx((0.004 - half, 0.004 + half))
    # Half a unit of the last digit is the least margin.
    _, close = judged(values, [0.401] * 3, PublishedValue("0.400"))
    assert close.margin == pytest.approx(0.0005)


def test_values_on_either_side_of_the_margin() -> None:
    assert judged([0.30, 0.301, 0.302], [0.6] * 3, PublishedValue("0.400"))[1].verdict == "better"
    assert judged([0.50, 0.501, 0.502], [0.6] * 3, PublishedValue("0.400"))[1].verdict == "worse"
    assert (
        judged([0.30, 0.40, 0.50], [0.6] * 3, PublishedValue("0.400"))[1].why == "too few seeds for the margin (n = 3)"
    )
    assert judged([0.40], [0.6] * 3, PublishedValue("0.400"))[1].why == "one seed"


def test_a_published_number_at_the_floor_is_called_so() -> None:
    at_floor = PublishedValue("0.400")
    assert judged([0.1, 0.11, 0.12], [0.4] * 3, at_floor)[1].verdict == "no better than the floor in the paper"
    assert judged([0.1, 0.11, 0.12], [0.41] * 3, at_floor)[1].verdict == "better"


def test_what_was_not_compared_says_why(spec: TableSpec) -> None:
    failed = stored("vsae", "mushroom", 0, status="failed", reason="it broke")
    cases = {
        "not run": [],
        "failed": [failed],
        "not comparable": [*seeds_of("vsae", "mushroom", "pfc", [0.1] * 3, variant="subset")],
    }
    for verdict, rows in cases.items():
        found = comparison_of(collect(spec, rows, PUBLISHED).cell(0, 1, 2))
        assert found is not None and found.verdict == verdict
    no_floor = comparison_of(collect(spec, seeds_of("vsae", "mushroom", "pfc", [0.1] * 3), PUBLISHED).cell(0, 1, 2))
    assert no_floor is not None and "the floor was not run" in no_floor.why
    absent = collect(spec, [], PUBLISHED, unobtained={"mushroom": "get it"}).cell(0, 1, 2)
    no_data = comparison_of(absent)
    assert no_data is not None and no_data.verdict == "no data" and "get it" in no_data.why
    unit = comparison_of(collect(spec, seeds_of("vsae", "yeast", "nrmse_rel", [0.1] * 3), PUBLISHED).cell(0, 1, 0))
    assert unit is not None and unit.verdict == "not comparable" and "NRMSE" in unit.why
    assert comparison_of(replace(absent, published=None)) is None
