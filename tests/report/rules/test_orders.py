"""The order of methods in a column: pairs over the same seeds, each clearly as published or clearly against it."""

from __future__ import annotations

from dataclasses import replace

from bench.experiment.reader import parse_spec
from bench.report import ReportCell, collect
from bench.report.published import PublishedValue
from bench.report.rules.orders import order_of
from tests.report.golden import PUBLISHED, SPEC, seeds_of


def labelled(**methods: tuple[float, list[float]]) -> list[tuple[str, ReportCell]]:
    """Return cells by label from published means and values of ours."""
    table = collect(parse_spec(SPEC, "t"), seeds_of("vsae", "yeast", "nrmse_rel", [0.0] * 3), PUBLISHED)
    cell = table.cell(0, 1, 0)
    return [
        (
            name,
            replace(
                cell,
                published=PublishedValue(f"{published}"),
                seeds=tuple(range(len(values))),
                values=tuple(values),
            ),
        )
        for name, (published, values) in methods.items()
    ]


NOISE = [0.0, 0.5, -0.4, 0.2, -0.3, 0.1, 0.4, -0.5, 0.3, -0.2]


def shifted(by: float, scale: float = 1.0) -> list[float]:
    """Return ten seeds of a method whose data sets are harder on some seeds than on others."""
    return [1.0 + by + scale * 0.001 * index + noise for index, noise in enumerate(NOISE)]


def test_a_difference_that_all_seeds_share_decides_though_the_seeds_differ_by_more() -> None:
    found = order_of(labelled(a=(0.3, shifted(0.0)), b=(0.4, shifted(0.05, 2)), c=(0.5, shifted(0.1, 3))))
    assert found.verdict == "order reproduced" and (found.as_published, found.against, found.open) == (3, 0, 0)
    assert found.rank_correlation == 1.0


def test_one_clear_contradiction_is_enough() -> None:
    found = order_of(labelled(a=(0.3, shifted(0.05)), b=(0.4, shifted(0.0, 2)), c=(0.5, shifted(0.1, 3))))
    assert found.verdict == "order not reproduced" and found.contradictions == (("a", "b"),)
    assert (found.as_published, found.against, found.open) == (2, 1, 0)


def test_differences_within_the_spread_are_open() -> None:
    found = order_of(labelled(a=(0.3, shifted(0.0)), b=(0.4, [1.0 - noise for noise in NOISE])))
    assert found.verdict == "undecided" and found.open == 1


def test_equal_published_values_have_no_order_and_missing_cells_none_either() -> None:
    cells = labelled(a=(0.3, shifted(0.0)), b=(0.3, shifted(0.1)), c=(0.4, shifted(0.2)))
    found = order_of(cells)
    assert found.as_published + found.against + found.open == 2
    cells[2] = ("c", replace(cells[2][1], seeds=(), values=()))
    assert order_of(cells).methods == 2
    assert order_of(cells[2:]).verdict == "not run"
    one_seed = labelled(a=(0.3, [1.0]), b=(0.4, [2.0]))
    assert order_of(one_seed).open == 1
