"""Curves over the missing ratio: what is drawn is what the points are, and nothing flattens the rest."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from bench.experiment.reader import load_spec, table_ids
from bench.experiment.specs import ColumnSpec, Defaults, RowSpec, TableSpec
from bench.report import collect, read_published
from bench.report.figures import ratios
from bench.report.figures.ratios import RatioCurve, RatioPoint, is_outlier, panels_of, point_records
from bench.report.figures.style import Heading
from bench.report.published import PublishedValue
from tests.report.golden import stored

RATIOS = (0.3, 0.5, 0.7)
SPEC = TableSpec(
    id="ratios",
    title="Ratios",
    label="fig:ratios",
    defaults=Defaults(mechanism="mcar", attribute="all", include_target=False),
    rows=(RowSpec(label="floor", method="mean_mode", floor=True), RowSpec(label="vsae", method="vsae")),
    columns=tuple(ColumnSpec(label=f"{r:g}", dataset="pairs", metric="mse_sum", ratio=r) for r in RATIOS),
)
#: Floor's and VSAE's errors by ratio and seed.
FLOOR = {0.3: (0.20, 0.25, 0.20), 0.5: (0.2, 0.2, 0.2), 0.7: (0.1, 0.1, 0.1)}
OURS = {0.3: (0.10, 0.20, 0.10), 0.5: (0.1, 0.2, 0.3), 0.7: (0.3, 0.3, 0.3)}
PRINTED = {("pairs", "mcar", 0.5, "vsae", "mse_sum"): [PublishedValue("0.15", "0.01")]}


def curves(skill: bool) -> tuple[RatioCurve, ...]:
    rows = [
        stored(method, "pairs", seed, {"mse_sum": value}, ratio=ratio)
        for method, values in (("mean_mode", FLOOR), ("vsae", OURS))
        for ratio, own in values.items()
        for seed, value in enumerate(own)
    ]
    return ratios.ratio_curves(collect(SPEC, rows), skill, {"vsae": "VSAE"}, PRINTED)


def test_a_skill_is_taken_seed_by_seed() -> None:
    floor, ours = curves(skill=True)
    assert (floor.floor, ours.label, ours.method) == (True, "VSAE", "vsae")
    assert [point.mean for point in floor.points] == pytest.approx([0, 0, 0])
    # 1 - 0.1 / 0.2, 1 - 0.2 / 0.25, 1 - 0.1 / 0.2.
    assert ours.points[0].mean == pytest.approx((0.5 + 0.2 + 0.5) / 3)
    assert ours.points[0].sd == pytest.approx(np.std([0.5, 0.2, 0.5], ddof=1))
    assert [point.ratio for point in ours.points] == list(RATIOS)
    (printed,) = ours.published
    assert (printed.ratio, printed.sd) == (0.5, None) and printed.mean == pytest.approx(0.25)
    _, raw = curves(skill=False)
    assert raw.points[1].mean == pytest.approx(0.2) and raw.published[0].mean == 0.15


def test_what_is_far_below_the_floor_does_not_stretch_the_axis() -> None:
    found = curves(skill=True)
    assert [is_outlier(point, skill=True) for point in found[1].points] == [False, False, True]
    grid = panels_of(found, "mechanism", skill=True)
    figure = ratios.draw_ratios(grid, Heading("Title", "details"), skill=True, page=False)
    axes: Axes = figure.axes[0]
    assert axes.get_ylim()[0] > -1 and axes.get_ylabel() == "skill (MSE, summed over\nattributes)"
    marks = [line for line in axes.lines if line.get_marker() == "v"]
    assert [tuple(np.ravel(line.get_xydata())) for line in marks] == [(0.7, axes.get_ylim()[0])]
    assert "−2" in [text.get_text() for text in axes.texts]
    (drawn,) = (line for line in axes.lines if line.get_label() == "VSAE")
    assert np.ravel(drawn.get_xydata())[::2] == pytest.approx([0.3, 0.5])
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [tuple(np.ravel(line.get_xydata())) for line in hollow] == [(0.5, pytest.approx(0.25))]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["VSAE", "published", "the floor", "off the axis"]


def test_a_legend_explains_only_what_occurs() -> None:
    plain = [RatioCurve("a", "mcar", "pfc", "vae", "VAE", tuple(RatioPoint(r, 0.1, 0.01, 3, 1.0) for r in RATIOS))]
    figure = ratios.draw_ratios(panels_of(plain, "mechanism", False), Heading("T", "d"), skill=False, page=False)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["VAE"]
    # A line that has room is named at its end.
    assert [text.get_text() for text in figure.axes[0].texts] == ["VAE"]


def curve(dataset: str, mechanism: str, method: str, level: float = 0.1) -> RatioCurve:
    points = tuple(RatioPoint(ratio, level, 0.01, 3, 1.0) for ratio in RATIOS)
    return RatioCurve(dataset, mechanism, "pfc", method, method.upper(), points)


def test_panels_differ_in_what_is_asked_for() -> None:
    every = [curve(d, m, n) for d in ("a", "b") for m in ("mcar", "mar", "nmar") for n in ("vae", "vsae")]
    grid = panels_of(every, "mechanism", skill=True, datasets={"a": "Set A"})
    assert [[panel.title for panel in row] for row in grid] == [
        ["Set A, MCAR", "Set A, MAR", "Set A, NMAR"],
        ["b, MCAR", "b, MAR", "b, NMAR"],
    ]
    # VSAE stands first everywhere, whatever the order of the rows.
    assert [label for _, label, _ in grid[0][0].lines] == ["VSAE", "VAE"]
    by_set = panels_of(every, "dataset", skill=True)
    assert [[panel.title for panel in row] for row in by_set] == [
        ["MCAR, a", "MCAR, b"],
        ["MAR, a", "MAR, b"],
        ["NMAR, a", "NMAR, b"],
    ]
    by_method = panels_of([c for c in every if c.dataset == "a"], "method", skill=True)
    assert [[panel.title for panel in row] for row in by_method] == [["VSAE", "VAE"]]
    assert [label for _, label, _ in by_method[0][0].lines] == ["MCAR", "MAR", "NMAR"]
    many = panels_of([curve("a", "mcar", f"m{index}") for index in range(6)], "method", skill=True)
    assert [len(row) for row in many] == [4, 4] and [len(panel.lines) for panel in many[1]] == [1, 1, 0, 0]


def test_a_method_looks_the_same_in_every_picture() -> None:
    looks = []
    for methods in (("vsae", "vae"), ("vae", "gain", "vsae"), ("mine", "vsae")):
        panel = panels_of([curve("a", "mcar", name) for name in methods], "mechanism", skill=True)[0][0]
        looks.append({label: style for _, label, style in panel.lines})
    assert looks[0]["VSAE"] == looks[1]["VSAE"] == looks[2]["VSAE"] != looks[0]["VAE"] == looks[1]["VAE"]
    assert looks[2]["MINE"] not in (looks[0]["VSAE"], looks[0]["VAE"])


def test_published_numbers_are_those_in_the_same_unit() -> None:
    specs = [load_spec(name) for name in table_ids()]
    places = ratios.published_places(specs, read_published())
    # Tables 7 and 9 are curves; at 0.5 Table 8 prints the sum again.
    sums = {
        (dataset, ratio): len(values)
        for (dataset, _, ratio, method, metric), values in places.items()
        if metric == "mse_sum" and method == "mvae"
    }
    svhn = {("mnist_svhn", 0.3): 1, ("mnist_svhn", 0.5): 2, ("mnist_svhn", 0.7): 1}
    assert sums == {("mnist_mnist", ratio): 1 for ratio in RATIOS} | svhn
    assert places["mnist_label", "mcar", 0.5, "vsae", "pfc"][0].mean == 0.397
    # Two attributes share this metric, NRMSE has no known unit, and ICT-MMMO's features are others.
    assert not any(d == "mnist_svhn" and metric == "mse" for d, _, _, _, metric in places)
    assert not any(metric.startswith("nrmse") or d == "ict_mmmo" for d, _, _, _, metric in places)


def test_points_as_records_are_those_drawn() -> None:
    records = [record for record in point_records(curves(skill=False)) if record["method"] == "vsae"]
    assert [(r["source"], r["ratio"]) for r in records] == [*(("ours", ratio) for ratio in RATIOS), ("published", 0.5)]
    assert records[0]["floor"] == pytest.approx(0.65 / 3) and records[3]["value"] == 0.15
