"""What every picture shares: looks of series, headings, files."""

from __future__ import annotations

from pathlib import Path

from bench.plugins.registry import Registry
from bench.problem.draw_scores import DRAW_METRICS
from bench.problem.metrics import METRICS
from bench.report.figures.ratios import RatioCurve, RatioPoint, draw_ratios, panels_of
from bench.report.figures.style import (
    METHOD_ORDER,
    METRIC_LABELS,
    Heading,
    method_style,
    save_figure,
    series_style,
    wrapped,
)


def test_every_series_has_its_own_look() -> None:
    looks = [series_style(index) for index in range(20)]
    assert len({(look.colour, look.marker) for look in looks}) == 20
    # Without colour, marks and line styles still differ.
    assert len({(look.marker, str(look.dash)) for look in looks}) == 20


def test_headings_are_wrapped_and_files_repeat(tmp_path: Path) -> None:
    assert max(map(len, wrapped("word " * 60).splitlines())) <= 72
    grid = panels_of([RatioCurve("d", "mcar", "pfc", "a", "a $b$", (RatioPoint(0.5, 1.0, 0.1, 3),))], "mechanism", True)
    names = []
    for folder in ("one", "two"):
        figure = draw_ratios(grid, Heading("cost $x", "$y$ " * 40), skill=True, page=False)
        names.append(save_figure(figure, tmp_path / folder / "t.u"))
    assert [path.name for path in names[0]] == ["t.u.png", "t.u.pdf", "t.u.svg"]
    for one, two in zip(*names, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert "cost $x" in names[0][2].read_text(encoding="utf-8")


def test_every_metric_has_a_label() -> None:
    assert {metric.name for metric in (*METRICS, *DRAW_METRICS)} == METRIC_LABELS.keys()


def test_every_method_of_the_suite_has_its_place_and_its_look() -> None:
    assert set(METHOD_ORDER) == Registry.scan().methods.keys() - {"mean_mode"}
    assert len({str(method_style(name)) for name in METHOD_ORDER}) == len(METHOD_ORDER)
