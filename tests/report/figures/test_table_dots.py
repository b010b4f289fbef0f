"""A table as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from bench.experiment.reader import load_spec, table_ids
from bench.experiment.specs import TableSpec
from bench.report import ReportTable, collect
from bench.report.figures.table_dots import draw_table, plot_table
from tests.report.golden import PUBLISHED, golden_rows, seeds_of


def panel_points(table: ReportTable, panel: int) -> tuple[set[float], set[float]]:
    """Return the x positions of the dots in a panel, and those of its vertical lines."""
    axes = draw_table(table).axes[panel]
    dots = {float(np.ravel(line.get_xdata())[0]) for line in axes.lines if line.get_marker() in ("o", "s", "D")}
    vertical = {float(np.ravel(line.get_xdata())[0]) for line in axes.lines if line.get_marker() in ("None", None, "")}
    return dots, vertical


def test_the_plot_shows_ours_the_published_and_the_floor(golden: ReportTable) -> None:
    dots, vertical = panel_points(golden, 0)
    means = {golden.cell(0, row, 0).mean for row in (0, 1, 3)}
    assert dots == {*means, 0.424, 0.419}
    assert golden.cell(0, 3, 0).mean in vertical
    words = {text.get_text() for text in draw_table(golden).axes[2].texts}
    assert words == {"failed", "not run"}


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("name", table_ids())
def test_the_line_below_a_plot_is_not_cut_off(name: str, precision: str) -> None:
    figure = draw_table(collect(load_spec(name), [], None, "quick", precision=precision))
    figure.savefig(io.BytesIO(), format="png", dpi=figure.dpi)
    (legend,) = figure.legends
    width = legend.get_title().get_window_extent().width
    assert ("precision medium" in legend.get_title().get_text().replace("\n", " ")) is (precision == "medium")
    assert 0.5 * figure.bbox.width < width < figure.bbox.width


def test_a_plot_draws_dollar_signs_as_they_are(spec: TableSpec, tmp_path: Path) -> None:
    cost = "cost $x & \\frac{ $5$ $"
    rows = tuple(row.model_copy(update={"label": cost}) for row in spec.rows)
    columns = tuple(column.model_copy(update={"label": cost, "group": cost}) for column in spec.columns)
    table = collect(spec.model_copy(update={"title": cost, "rows": rows, "columns": columns}), golden_rows(), PUBLISHED)
    (path,) = plot_table(table, tmp_path / "t", formats=["svg"])
    assert path.read_text(encoding="utf-8").count("cost $x &amp; \\frac{ $5$ $") >= 1 + 6 + 4


def test_a_plot_is_written_in_three_formats_and_twice_the_same(tmp_path: Path, golden: ReportTable) -> None:
    first, second = plot_table(golden, tmp_path / "a.b" / "t"), plot_table(golden, tmp_path / "again" / "t")
    assert [path.name for path in first] == ["t.png", "t.pdf", "t.svg"]
    heads = (b"\x89PNG", b"%PDF", b"<?xml")
    for path, other, head in zip(first, second, heads, strict=True):
        assert path.read_bytes().startswith(head)
        assert path.read_bytes() == other.read_bytes()


def test_an_outlier_is_marked_at_the_edge_and_squeezes_nothing(spec: TableSpec) -> None:
    rows = [
        *seeds_of("forest", "mushroom", "pfc", [9.0] * 3, protocol="transductive"),
        *seeds_of("vsae", "mushroom", "pfc", [0.38, 0.39, 0.40]),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.40, 0.41, 0.42]),
    ]
    axes = draw_table(collect(spec, rows, PUBLISHED)).axes[2]
    assert axes.get_xlim()[1] < 0.5
    marks = [line for line in axes.lines if line.get_marker() == ">"]
    assert [tuple(np.ravel(line.get_xydata())) for line in marks] == [(axes.get_xlim()[1], 0.0)]
    assert "9" in {text.get_text() for text in axes.texts}


def test_a_picture_explains_only_marks_that_occur(spec: TableSpec) -> None:
    def reading(protocol: str) -> str:
        rows = tuple(row.model_copy(update={"protocol": protocol}) for row in spec.rows)
        table = collect(spec.model_copy(update={"rows": rows}), [], PUBLISHED)
        return " ".join(draw_table(table).legends[0].get_title().get_text().split())

    assert "transductive" in reading("transductive") and "transductive" not in reading("inductive")
    assert "subset" not in reading("inductive")
