"""From stored rows to tables: which rows belong together, what is printed, and that a real LaTeX takes it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import BenchError
from bench.experiment.spec import PublishedKey, TableSpec, load_spec, parse_spec, table_ids
from bench.paths import shipped_rows_folder
from bench.report import ReportCell, ReportTable, asked_of_store, collect, read_published, write_report
from bench.report.csv import csv_table
from bench.report.figures.table_dots import draw_table, plot_table
from bench.report.latex import escape, latex_document, latex_table
from bench.report.markdown import markdown_table
from bench.report.published import PublishedValue
from bench.report.terminal import print_table
from bench.report.text import cell_text, column_label, entry_notes, published_text, verdict_notes
from bench.run.store import Store

SPEC = """\
id = "golden"
number = 3
title = "Golden & small."
caption = "Lower is better."
label = "tab:golden"
notes = ["100% real."]

[defaults]
mechanism = "mcar"
ratio = 0.5

[defaults.published]
mechanism = "MCAR"
ratio = 0.5
attribute = "all"

[format]
digits = 3
delta = 0.0005
stub = "Attribute type"

[[rows]]
label = "Forest"
method = "forest"
protocol = "transductive"
published = "Forest"

[[rows]]
label = "VSAE_x"
method = "vsae"
published = "VSAE"

[[rows]]
label = "Odd"
method = "odd"
parameters = { posterior = "draw" }
reference = true

[[rows]]
label = "Mean/mode"
method = "mean_mode"
floor = true

[[columns]]
group = "Yeast"
label = "numerical"
dataset = "yeast"
metric = "nrmse_rel"
published = { dataset = "Yeast", metric = "nrmse" }

[[columns]]
group = "Yeast"
label = "in sd"
dataset = "yeast"
metric = "nrmse_std"

[[columns]]
group = "Mushroom"
label = "categorical"
dataset = "mushroom"
metric = "pfc"
published = { dataset = "Mushroom", metric = "pfc" }
"""

GOLDEN_LATEX = r"""\begin{table}[t]
\centering
\caption{\textbf{Golden \& small.} Lower is better. Mean $\pm$ sample standard deviation over n = 3 seeds (0, 1, 2), each with its own split, mask and initialisation. Here: preset quick, parameter set default, protocol inductive, in rows marked \textdaggerdbl{} transductive. $\Delta$: below 0.0005. Bold: best of all rows, the floor included.}
\label{tab:golden}
\smallskip
\small
\sbox0{%
\begin{tabular}{lccc}
\toprule
 & \multicolumn{2}{c}{Yeast} & \multicolumn{1}{c}{Mushroom} \\
\cmidrule(lr){2-3}\cmidrule(lr){4-4}
Attribute type & numerical & in sd & categorical\textsuperscript{\textdagger{}} \\
\midrule
Forest\textsuperscript{\textdaggerdbl{}} & 0.400 $\pm$ 0.010 & 0.900 $\pm$ 0.010 & ---\textsuperscript{a} \\
\quad published & 0.424 $\pm$ $\Delta$ &  & 0.419 $\pm$ 0.002 \\
\addlinespace
VSAE\_x & {\boldmath\textbf{0.350 $\pm$ $\Delta$}} & {\boldmath\textbf{0.850 $\pm$ $\Delta$}} & 0.390 $\pm$ 0.014\textsuperscript{b} \\
\quad published & 0.4190 $\pm$ \textless{}0.01 &  & 0.416 \\
\addlinespace
\textit{Odd} & -- & -- & -- \\
\addlinespace
\textit{Mean/mode} & 0.420 $\pm$ 0.020 & 0.990 $\pm$ 0.010 & {\boldmath\textbf{0.410 $\pm$ 0.010}} \\
\bottomrule
\end{tabular}}%
\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi

\medskip
\begin{minipage}{\linewidth}\footnotesize\raggedright
\textsuperscript{\textdagger{}}\,only a subset of this data set could be had: not comparable with the published numbers.\\
\textsuperscript{\textdaggerdbl{}}\,transductive: fitted on the very rows it imputes.\\
\textsuperscript{a}\,failed: out of memory \& time.\\
\textsuperscript{b}\,n = 2 of 3 seeds: seed 1 not run.\\
--: not run; ---: no result, see its letter.\\
Rows in italics are not in the paper: references, and the floor.\\
100\% real.\\
Published values no better than our floor (Mean/mode): 1 of 2 (Forest on Yeast).\\
Our values no better than the floor (Mean/mode): 0 of 5.
\end{minipage}
\end{table}
"""  # noqa: E501

GOLDEN_MARKDOWN = r"""### Table 3: Golden &amp; small.

Lower is better. Mean ± sample standard deviation over n = 3 seeds (0, 1, 2), each with its own split, mask and initialisation. Here: preset quick, parameter set default, protocol inductive, in rows marked ‡ transductive. Δ: below 0.0005. Bold: best of all rows, the floor included.

| Attribute type | Yeast<br>numerical | Yeast<br>in sd | Mushroom<br>categorical<sup>†</sup> |
| --- | :---: | :---: | :---: |
| Forest<sup>‡</sup> | 0.400 ± 0.010 | 0.900 ± 0.010 | —<sup>a</sup> |
| VSAE\_x | **0.350 ± Δ** | **0.850 ± Δ** | 0.390 ± 0.014<sup>b</sup> |
| *Odd* | – | – | – |
| *Mean/mode* | 0.420 ± 0.020 | 0.990 ± 0.010 | **0.410 ± 0.010** |

- <sup>†</sup> only a subset of this data set could be had: not comparable with the published numbers.
- <sup>‡</sup> transductive: fitted on the very rows it imputes.
- <sup>a</sup> failed: out of memory &amp; time.
- <sup>b</sup> n = 2 of 3 seeds: seed 1 not run.
- –: not run; —: no result, see its letter.
- Rows in italics are not in the paper: references, and the floor.
- 100% real.
- Published values no better than our floor (Mean/mode): 1 of 2 (Forest on Yeast).
- Our values no better than the floor (Mean/mode): 0 of 5.
"""  # noqa: E501


def key(method: str, dataset: str, metric: str) -> PublishedKey:
    """Return the key of a published cell of the golden table."""
    return PublishedKey(3, method, dataset, "all", "MCAR", 0.5, metric)


PUBLISHED = {
    key("Forest", "Yeast", "nrmse"): PublishedValue("0.424", sd_below=0.0005),
    key("VSAE", "Yeast", "nrmse"): PublishedValue("0.4190", sd_below=0.01),
    key("Forest", "Mushroom", "pfc"): PublishedValue("0.419", "0.002"),
    key("VSAE", "Mushroom", "pfc"): PublishedValue("0.416"),
}


def stored(
    method: str, dataset: str, seed: int, metrics: dict[str, float] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a stored row; ``changes`` name keys of its cell, or status, reason, variant and attributes."""
    cell: dict[str, Any] = {
        "dataset": dataset,
        "content": f"{dataset}-full",
        "include_target": False,
        "mechanism": "mcar",
        "mechanism_version": 1,
        "mechanism_parameters": {},
        "ratio": 0.5,
        "method": method,
        "method_version": 1,
        "parameter_set": "default",
        "parameters": {"trees": 3},
        "overrides": {},
        "seed": seed,
        "repeat": "all",
        "protocol": "inductive",
        "preset": "quick",
        "budget": {"steps": 30},
        "engine": 1,
    }
    row: dict[str, Any] = {"status": "ok", "reason": None, "variant": "full", "attributes": {}}
    for name, value in changes.items():
        (row if name in row else cell)[name] = value
    scopes = {"all": metrics or {}} if row["status"] == "ok" else {}
    return {"key": json.dumps(cell, sort_keys=True), "cell": cell, "metrics": scopes, **row}


def seeds_of(method: str, dataset: str, metric: str, values: Iterable[float], **changes: Any) -> list[dict[str, Any]]:
    """Return one row a value, for seeds 0, 1, ..."""
    return [stored(method, dataset, seed, {metric: value}, **changes) for seed, value in enumerate(values)]


@pytest.fixture
def spec() -> TableSpec:
    return parse_spec(SPEC, "golden.toml")


def golden_rows() -> list[dict[str, Any]]:
    """Return rows that give every kind of cell but one that is not available."""

    def yeast(method: str, *pairs: tuple[float, float], **changes: Any) -> list[dict[str, Any]]:
        return [
            stored(method, "yeast", seed, {"nrmse_rel": rel, "nrmse_std": std}, **changes)
            for seed, (rel, std) in enumerate(pairs)
        ]

    subset: dict[str, Any] = {"variant": "subset", "content": "mushroom-part"}
    failed: dict[str, Any] = {"status": "failed", "reason": "out of memory & time"}
    return [
        *yeast("forest", (0.39, 0.89), (0.40, 0.90), (0.41, 0.91), protocol="transductive"),
        *yeast("vsae", (0.35, 0.85), (0.35, 0.85), (0.3501, 0.8501)),
        *yeast("mean_mode", (0.40, 0.98), (0.42, 0.99), (0.44, 1.00), parameters={}),
        # These two belong to other rows than "Odd": without its override, and with another one.
        *yeast("odd", (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)),
        *yeast("odd", (0.1, 0.1), (0.1, 0.1), (0.1, 0.1), overrides={"posterior": "point"}),
        *(stored("forest", "mushroom", s, protocol="transductive", **failed, **subset) for s in range(3)),
        stored("vsae", "mushroom", 0, {"pfc": 0.38}, **subset),
        stored("vsae", "mushroom", 2, {"pfc": 0.40}, **subset),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.40, 0.41, 0.42], parameters={}, **subset),
    ]


@pytest.fixture
def golden(spec: TableSpec) -> ReportTable:
    return collect(spec, golden_rows(), PUBLISHED)


def test_stored_rows_become_this_latex(golden: ReportTable) -> None:
    assert latex_table(golden, published=True) == GOLDEN_LATEX
    assert "published &" not in latex_table(golden)


def test_stored_rows_become_this_markdown(golden: ReportTable) -> None:
    assert markdown_table(golden) == GOLDEN_MARKDOWN
    assert "| &nbsp;&nbsp;published | 0.4190 ± &lt;0.01 |  | 0.416 |" in markdown_table(golden, published=True)


def test_the_order_of_the_rows_changes_nothing(spec: TableSpec, golden: ReportTable) -> None:
    assert collect(spec, reversed(golden_rows()), PUBLISHED) == golden


def test_the_spread_is_the_sample_standard_deviation(spec: TableSpec) -> None:
    cell = collect(spec, seeds_of("vsae", "mushroom", "pfc", [0.1, 0.2, 0.4])).cell(0, 1, 2)
    assert cell.mean == pytest.approx(0.7 / 3)
    # Squared deviations sum to 0.14 / 3; the divisor is n - 1 = 2.
    assert cell.sd == pytest.approx((0.14 / 3 / 2) ** 0.5)
    assert cell.n == 3 and cell.seeds == (0, 1, 2) and cell.status == "ok"


@pytest.mark.parametrize(("spread", "text"), [(0.0004, "0.300 ± Δ"), (0.0006, "0.300 ± 0.001"), (0.0, "0.300 ± Δ")])
def test_a_tiny_spread_prints_as_delta(spec: TableSpec, spread: float, text: str) -> None:
    table = collect(spec, seeds_of("vsae", "mushroom", "pfc", [0.3 - spread, 0.3, 0.3 + spread]))
    assert cell_text(table, table.cell(0, 1, 2)).text == text


def test_published_numbers_print_as_published() -> None:
    assert published_text(PublishedValue("0.3840", "0.001"), 0.0005) == "0.3840 ± 0.001"
    assert published_text(PublishedValue("0.3840", sd_below=0.0005), 0.0005) == "0.3840 ± Δ"
    assert published_text(PublishedValue("0.3840", sd_below=0.00005), 0.0005) == "0.3840 ± <0.00005"


def test_presets_are_never_mixed(spec: TableSpec) -> None:
    quick = seeds_of("vsae", "mushroom", "pfc", [0.1, 0.1, 0.1]) + seeds_of("mean_mode", "mushroom", "pfc", [0.2] * 3)
    paper = seeds_of("vsae", "mushroom", "pfc", [0.5, 0.5, 0.5], preset="paper")
    fullest = collect(spec, quick + paper)
    assert fullest.preset == "quick"
    assert fullest.cell(0, 1, 2).mean == pytest.approx(0.1)
    chosen = collect(spec, quick + paper, preset="paper")
    assert chosen.preset == "paper"
    assert chosen.cell(0, 1, 2).mean == 0.5
    assert chosen.cell(0, 3, 2).status == "missing"
    assert collect(spec, quick, preset="smoke").cell(0, 1, 2).status == "missing"
    with pytest.raises(BenchError, match="unknown preset 'papper'. Did you mean 'paper'"):
        collect(spec, quick, preset="papper")


def test_equally_full_presets_give_way_to_more_seeds_and_then_to_the_larger_budget(spec: TableSpec) -> None:
    def rows(preset: str, count: int) -> list[dict[str, Any]]:
        return seeds_of("vsae", "mushroom", "pfc", [0.1] * count, preset=preset)

    assert collect(spec, rows("smoke", 3) + rows("paper", 3) + rows("quick", 3)).preset == "paper"
    assert collect(spec, rows("smoke", 2) + rows("quick", 3) + rows("paper", 2)).preset == "quick"
    assert collect(spec, rows("smoke", 3) + rows("quick", 3)).preset == "quick"
    assert collect(spec, []).preset is None


@pytest.mark.parametrize("preset", [None, "quick", "paper"])
@pytest.mark.parametrize("name", table_ids())
def test_what_a_store_is_asked_for_gives_the_table_that_all_of_its_rows_give(name: str, preset: str | None) -> None:
    store, spec = Store(shipped_rows_folder()), load_spec(name)
    one_seed = spec.model_copy(update={"seeds": spec.seeds[1:2]})
    for asking in (spec, one_seed):
        question = asked_of_store(asking, preset)
        asked, every = list(store.rows(**question)), store.rows(question["datasets"], question["methods"])
        assert collect(asking, asked, None, preset) == collect(asking, every, None, preset)
    assert {row["cell"]["seed"] for row in store.rows(**asked_of_store(one_seed))} <= {1}
    if name == "table06" and preset != "paper":
        assert 0 < len(asked) < len(list(store.rows())) / 2


def test_parameter_sets_are_never_mixed_but_a_method_without_parameters_is_in_all(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3),
        *seeds_of("vsae", "mushroom", "pfc", [0.3] * 3, parameter_set="literal"),
        *seeds_of("forest", "mushroom", "pfc", [0.2] * 3, protocol="transductive"),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.4] * 3, parameters={}),
    ]
    table = collect(spec, rows, parameter_set="literal")
    assert [table.cell(0, row, 2).mean for row in range(4)] == [None, pytest.approx(0.3), None, pytest.approx(0.4)]
    assert collect(spec, rows).cell(0, 1, 2).mean == pytest.approx(0.1)
    assert "parameter set literal" in markdown_table(table)


def test_precisions_are_never_mixed_and_a_method_without_torch_is_in_all(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3),
        *seeds_of("vsae", "mushroom", "pfc", [0.3] * 3, precision="medium"),
        *seeds_of("forest", "mushroom", "pfc", [0.2] * 3, protocol="transductive"),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.4] * 3, parameters={}),
    ]
    for precision, expected in (("highest", 0.1), ("medium", 0.3), ("high", None)):
        table = collect(spec, rows, precision=precision, torch_methods={"vsae", "odd"})
        found = [table.cell(0, row, 2).mean for row in range(4)]
        ours = None if expected is None else pytest.approx(expected)
        assert found == [pytest.approx(0.2), ours, None, pytest.approx(0.4)]
        assert {line["precision"] for line in csv.DictReader(io.StringIO(csv_table(table)))} == {precision}
        assert ("precision" in markdown_table(table)) is (precision != "highest")
    with pytest.raises(BenchError, match="unknown precision 'medum'. Did you mean 'medium'"):
        collect(spec, rows, precision="medum")


def test_a_row_shows_only_rows_with_exactly_its_overrides_protocol_and_repetition(spec: TableSpec) -> None:
    odd = seeds_of("odd", "mushroom", "pfc", [0.2] * 3, overrides={"posterior": "draw"})
    assert collect(spec, odd).cell(0, 2, 2).mean == pytest.approx(0.2)
    for overrides in ({"posterior": "draw", "sweeps": 2}, {}):
        rows = seeds_of("odd", "mushroom", "pfc", [0.2] * 3, overrides=overrides)
        assert collect(spec, rows).cell(0, 2, 2).status == "missing"
    others: tuple[dict[str, Any], ...] = (
        {"protocol": "transductive"},
        {"repeat": "initialisation"},
        {"include_target": True},
        {"ratio": 0.3},
    )
    for changes in others:
        rows = seeds_of("vsae", "mushroom", "pfc", [0.2] * 3, **changes)
        assert collect(spec, rows).cell(0, 1, 2).status == "missing"


def test_contents_of_a_data_set_are_never_mixed_and_the_full_one_wins(spec: TableSpec) -> None:
    part = {"variant": "subset", "content": "part"}
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3, **part),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.2] * 3, **part),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.4] * 3),
    ]
    table = collect(spec, rows, PUBLISHED)
    assert table.cell(0, 1, 2).status == "missing"
    assert table.cell(0, 3, 2).mean == pytest.approx(0.4)
    assert not table.column_is_subset(2)
    # With the full data failed, the subset is what there is.
    failed = [stored("vsae", "mushroom", 0, status="failed", reason="x")]
    table = collect(spec, rows[:6] + failed, PUBLISHED)
    assert table.cell(0, 1, 2).mean == pytest.approx(0.1)
    assert table.column_is_subset(2)
    assert table.cell(0, 1, 2).difference is None and table.cell(0, 1, 2).published_verdict == ""
    assert table.cell(0, 1, 2).verdict == "better than floor"


def test_versions_and_budgets_are_never_mixed(spec: TableSpec) -> None:
    old = seeds_of("vsae", "mushroom", "pfc", [0.1] * 3)
    floor = seeds_of("mean_mode", "mushroom", "pfc", [0.2] * 3)
    new = stored("vsae", "mushroom", 0, {"pfc": 0.3}, method_version=2)
    cell = collect(spec, [*old, *floor, new]).cell(0, 1, 2)
    assert cell.values == (0.3,) and cell.status == "partial"
    # Another engine or mechanism makes other holes: every row of the column has to be of the new one.
    for changes in ({"engine": 2}, {"mechanism_version": 2}):
        newer = stored("vsae", "mushroom", 0, {"pfc": 0.3}, **changes)
        table = collect(spec, [newer, *old, *floor])
        assert table.cell(0, 1, 2).values == (0.3,) and table.cell(0, 3, 2).status == "missing"
    other = stored("vsae", "mushroom", 0, {"pfc": 0.3}, budget={"steps": 31})
    assert collect(spec, [other, *old, *floor]).cell(0, 1, 2).values == (0.1, 0.1, 0.1)


def test_mechanism_parameters_that_the_spec_does_not_tell_apart_are_an_error(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3, mechanism_parameters={"share": 0.3}),
        *seeds_of("vsae", "mushroom", "pfc", [0.2] * 3, mechanism_parameters={"share": 0.5}),
    ]
    with pytest.raises(BenchError, match="rows of 'mushroom' under 'mcar' with different parameters"):
        collect(spec, rows)
    named = parse_spec(SPEC.replace("ratio = 0.5\n", "ratio = 0.5\nmechanism_parameters = { share = 0.5 }\n", 1), "t")
    assert collect(named, rows).cell(0, 1, 2).mean == pytest.approx(0.2)
    for row, overrides in zip(rows, [{}] * 3 + [{"share": 0.5}] * 3, strict=True):
        row["cell"]["mechanism_overrides"] = overrides
    assert collect(spec, rows).cell(0, 1, 2).mean == pytest.approx(0.1)


def test_what_has_no_number_says_why(spec: TableSpec) -> None:
    rows = [
        *(stored("vsae", "mushroom", s, status="skipped", reason="data not obtained") for s in range(3)),
        *seeds_of("mean_mode", "mushroom", "mse", [0.1] * 3),
        stored("vsae", "yeast", 0, status="failed", reason="A"),
        stored("vsae", "yeast", 1, {"nrmse_rel": 0.1, "nrmse_std": float("nan")}),
        stored("vsae", "yeast", 2, status="failed", reason="B"),
    ]
    table = collect(spec, rows, known_methods={"vsae": {"default"}, "mean_mode": {"default"}, "forest": {"default"}})
    marks = dict(table.footnotes)

    def shown(row: int, column: int) -> tuple[str, str, str]:
        cell = table.cell(0, row, column)
        return cell.status, cell_text(table, cell).text, marks.get(cell.mark, "")

    assert shown(0, 2) == ("missing", "–", "")
    assert shown(2, 2) == ("unavailable", "n/a", "")
    assert shown(1, 2) == ("skipped", "—", "skipped: data not obtained")
    assert shown(3, 2) == ("unscored", "—", "no 'pfc' of 'all' to score")
    partial = "n = 1 of 3 seeds: seed 0 failed: A; seed 2 failed: B"
    assert shown(1, 0) == ("partial", "0.100", partial)
    failed = "seed 0 failed: A; seed 1 no 'nrmse_std' of 'all' to score; seed 2 failed: B"
    assert shown(1, 1) == ("failed", "—", failed)
    assert len({mark for mark, _ in table.footnotes}) == len(table.footnotes) == 4
    for text in (latex_table(table), markdown_table(table)):
        assert "n/a: method not available" in text and "data not obtained" in text


def test_a_failure_that_was_mended_by_a_rerun_is_no_failure(spec: TableSpec) -> None:
    failed = [stored("vsae", "mushroom", s, status="failed", reason="x") for s in range(3)]
    mended = seeds_of("vsae", "mushroom", "pfc", [0.1] * 3)
    for rows in (failed + mended, mended + failed):
        assert collect(spec, rows).cell(0, 1, 2).status == "ok"


def test_bold_is_the_best_of_all_complete_rows_ties_and_floor_included(spec: TableSpec) -> None:
    rows = [
        *seeds_of("forest", "mushroom", "pfc", [0.30004] * 3, protocol="transductive"),
        *seeds_of("vsae", "mushroom", "pfc", [0.1, 0.1]),
        *seeds_of("odd", "mushroom", "pfc", [0.31] * 3, overrides={"posterior": "draw"}),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.3] * 3),
    ]
    table = collect(spec, rows)
    assert [table.cell(0, row, 2).best for row in range(4)] == [True, False, False, True]
    highest = parse_spec(SPEC.replace("[format]", '[format]\nbest = "max"'), "t")
    table = collect(highest, rows)
    assert [table.cell(0, row, 2).best for row in range(4)] == [False, False, True, False]
    assert [table.cell(0, row, 2).verdict for row in (0, 1, 2)] == [
        "no better than floor",
        "no better than floor",
        "better than floor",
    ]


def test_cells_are_judged_by_the_floor_at_the_printed_precision(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "yeast", "nrmse_rel", [0.4199] * 3),
        *seeds_of("mean_mode", "yeast", "nrmse_rel", [0.42004] * 3),
        # On the one seed it has, this one is worse than the floor, and better than the floor's mean.
        stored("vsae", "mushroom", 0, {"pfc": 0.30}),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.25, 0.35, 0.45]),
    ]
    published = {**PUBLISHED, key("VSAE", "Yeast", "nrmse"): PublishedValue("0.420")}
    table = collect(spec, rows, published)
    assert table.cell(0, 1, 0).verdict == "no better than floor"
    assert table.cell(0, 1, 0).published_verdict == "no better than floor"
    assert table.cell(0, 0, 0).published_verdict == "no better than floor"
    assert table.cell(0, 1, 2).verdict == "no better than floor"
    assert table.cell(0, 3, 0).verdict == "floor"
    assert table.cell(0, 1, 0).difference == pytest.approx(-0.0001)
    assert table.cell(0, 1, 0).floor == pytest.approx(0.42004)
    assert table.cell(0, 1, 1).floor is None and table.cell(0, 1, 1).verdict == ""
    assert verdict_notes(table)[0].startswith("Published values no better than our floor (Mean/mode): 4 of 4")
    assert verdict_notes(table)[1].endswith("2 of 2 (VSAE_x on every compared column).")


def test_numbers_that_do_not_compare_are_shown_and_not_judged() -> None:
    text = SPEC.replace('metric = "nrmse" }', 'metric = "nrmse", comparable = false }')
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.3] * 3) + seeds_of("mean_mode", "yeast", "nrmse_rel", [0.4] * 3)
    table = collect(parse_spec(text, "t"), rows, PUBLISHED)
    cell = table.cell(0, 1, 0)
    assert cell.published is not None and cell.difference is None and cell.published_verdict == ""
    assert all(not cell.published_verdict for cell in collect(load_spec("11"), [], read_published()).cells)


def test_a_row_of_other_presets_is_left_out_unless_it_was_run() -> None:
    text = SPEC.replace('method = "odd"', 'method = "odd"\npresets = ["paper"]')
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.3] * 3) + seeds_of("mean_mode", "yeast", "nrmse_rel", [0.4] * 3)
    odd = seeds_of("odd", "yeast", "nrmse_rel", [0.2] * 3, overrides={"posterior": "draw"})
    labels = ["Forest", "VSAE_x", "Mean/mode"]
    table = collect(parse_spec(text, "t"), rows)
    assert [row.label for row in table.spec.rows] == labels
    assert (table.cell(0, 1, 0).best, table.cell(0, 2, 0).verdict) == (True, "floor")
    assert "Odd" not in markdown_table(table)
    table = collect(parse_spec(text, "t"), [*rows, *odd])
    assert [row.label for row in table.spec.rows] == [*labels[:2], "Odd", labels[2]]
    assert table.cell(0, 2, 0).best
    large = [{**row, "cell": {**row["cell"], "preset": "paper"}} for row in rows]
    assert len(collect(parse_spec(text, "t"), large).spec.rows) == 4
    assert len(collect(parse_spec(text, "t"), []).spec.rows) == 4


def test_a_note_says_how_many_entries_were_scored() -> None:
    text = SPEC.replace('metric = "nrmse_std"', 'metric = "mse"\nattribute = "text"\ncount_entries = true')
    text = text.replace('dataset = "mushroom"', 'dataset = "mushroom"\ncount_entries = true')
    rows = [
        stored("vsae", "yeast", seed, {}, attributes={"text": {"mse": 0.1, "entries": 12 + seed}, "sound": {}})
        for seed in (0, 2)
    ]
    rows += [stored("mean_mode", "yeast", 1, {}, attributes={"text": {"mse": 0.1, "entries": 9}})]
    rows += [{**row, "counts": {"entries": 70}} for row in seeds_of("vsae", "mushroom", "pfc", [0.1])]
    table = collect(parse_spec(text, "t"), rows)
    assert entry_notes(table) == [
        "Scored entries of Yeast in sd: 12 (seed 0), 9 (seed 1), 14 (seed 2).",
        "Scored entries of Mushroom categorical: 70 (seed 0).",
    ]
    assert entry_notes(table)[0] in markdown_table(table)
    assert entry_notes(collect(parse_spec(SPEC, "t"), rows)) == []
    assert [column.count_entries for column in load_spec("11").columns] == [False, False, True]


def test_a_stand_in_is_marked_in_every_column_and_compares_with_nothing() -> None:
    spec = parse_spec(SPEC, "t").model_copy(update={"stand_ins": {"yeast": "made_up"}})
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.1] * 3) + seeds_of("vsae", "made_up", "nrmse_rel", [0.3] * 3)
    table = collect(spec, rows, PUBLISHED)
    cell = table.cell(0, 1, 0)
    assert cell.values == (0.3,) * 3
    assert (cell.published, cell.difference, cell.published_verdict) == (None, None, "")
    assert table.cell(0, 1, 2).published is not None
    assert [column_label(table, column).marks for column in range(3)] == ["§", "§", ""]
    told = "SYNTHETIC: made_up takes the place of yeast. It says nothing about that data set, and is never compared"
    assert f"- <sup>§</sup> {told}".replace("made_up", r"made\_up") in markdown_table(table, True)
    assert r"numerical\textsuperscript{\S{}}" in latex_table(table, True)
    assert "§" not in markdown_table(collect(parse_spec(SPEC, "t"), rows, PUBLISHED), True)


def test_data_that_is_not_here_is_said_where_there_are_no_rows(spec: TableSpec) -> None:
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.3] * 3)
    table = collect(spec, rows, unobtained={"yeast": "put it there", "mushroom": "ask for it"})
    assert {cell.status for cell in table.cells if cell.entry.dataset == "mushroom"} == {"unobtained"}
    assert table.cell(0, 1, 0).values == (0.3,) * 3 and table.cell(0, 1, 0).mark == ""
    text = markdown_table(table)
    assert "| no data<sup>b</sup> |" in text
    assert "- <sup>b</sup> data not obtained: ask for it.\n" in text


def test_scores_come_from_a_scope_or_from_an_attribute() -> None:
    text = SPEC.replace('metric = "nrmse_rel"', 'metric = "mse"\nattribute = "image"')
    text = text.replace('metric = "nrmse_std"', 'metric = "mse"\nattribute = "nothing_observed"')
    rows = seeds_of("vsae", "yeast", "mse", [9.0] * 3, attributes={"image": {"mse": 0.1}})
    for row in rows:
        row["metrics"]["nothing_observed"] = {"mse": 0.2}
    table = collect(parse_spec(text, "t"), rows)
    assert table.cell(0, 1, 0).values == (0.1,) * 3
    assert table.cell(0, 1, 1).values == (0.2,) * 3


def test_a_published_number_that_is_not_there_is_an_error(spec: TableSpec) -> None:
    with pytest.raises(BenchError, match="Table 3, Forest, Yeast/all, MCAR at 0.5, nrmse"):
        collect(spec, [], {key("VSAE", "Yeast", "nrmse"): PublishedValue("0.4")})


def test_broken_published_numbers_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    header = "table,method,dataset,attribute,mechanism,ratio,metric,mean,std,std_below\n"
    line = "5,VAE,Yeast,all,MAR,,nrmse,0.485,0.004,\n"
    for text, said in (
        (header + line + line, "3: a second number for Table 5, VAE, Yeast/all, MAR, nrmse"),
        (header + line.replace("0.485", "about"), "2: could not convert"),
        (header + "5,VAE\n", "2: "),
        (header.replace("std,", ""), "1: column 'std' is missing"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BenchError) as caught:
            read_published(path)
        assert str(caught.value).startswith(f"{path}:{said}")
    with pytest.raises(BenchError, match="cannot be read"):
        read_published(tmp_path / "none.csv")


def test_csv_has_one_line_a_cell_with_full_precision(golden: ReportTable) -> None:
    records = list(csv.DictReader(io.StringIO(csv_table(golden))))
    assert len(records) == 12
    forest, vsae = records[0], records[3]
    assert (forest["row"], forest["column"], forest["protocol"]) == ("Forest", "Yeast numerical", "transductive")
    assert (forest["n"], forest["seeds"], forest["published_mean"], forest["published_sd_below"]) == (
        "3",
        "0 1 2",
        "0.424",
        "0.0005",
    )
    assert float(forest["difference"]) == pytest.approx(0.4 - 0.424)
    assert (forest["verdict"], forest["published_verdict"]) == ("better than floor", "no better than floor")
    assert float(vsae["mean"]) == pytest.approx(0.35 + 0.0001 / 3, abs=1e-15)
    assert (records[2]["status"], records[2]["reason"], records[2]["mean"]) == (
        "failed",
        "failed: out of memory & time",
        "",
    )
    assert (records[5]["variant"], records[5]["difference"]) == ("subset", "")


HOSTILE = r"\input{x} 50% _a_ #1 $x$ & {b} ~ ^ <i> [2pt] *|`' \\ é ß ± Δ 中 ∞ ﬁ " + "\u0000\u2028\u202e\U0001f600"


def test_hostile_text_is_escaped() -> None:
    assert escape(r"a_b & 50% {x} \y #1 $") == r"a\_b \& 50\% \{x\} \textbackslash{}y \#1 \$"
    assert escape("[1] *") == "{[}1{]} {*}"
    assert escape("± Δ é 中 ﬁ\n") == r"$\pm$ $\Delta$ é \texttt{U+4E2D} fi "
    spec = parse_spec(SPEC, "t")
    row = spec.rows[0].model_copy(update={"label": "a|b <c> *d* `e`"})
    table = collect(spec.model_copy(update={"rows": (row, *spec.rows[1:])}), [])
    assert r"| a\|b &lt;c&gt; \*d\* \`e\`<sup>‡</sup> |" in markdown_table(table)


def filled(spec: TableSpec) -> list[dict[str, Any]]:
    """Return rows for all cells of a table, one of them failed and one data set a subset."""
    level = {"pfc": 0.4, "nrmse_rel": 0.37, "nrmse_std": 0.95, "mse": 0.07, "mse_sum": 0.13}
    entries = spec.entries()
    rows: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        for seed in spec.seeds:
            scale = 1 + 0.01 * entry.row + 0.003 * seed
            metrics = {name: value * scale for name, value in level.items()}
            row = stored(
                entry.method,
                entry.dataset,
                seed,
                metrics,
                mechanism=entry.mechanism,
                ratio=entry.ratio,
                overrides=dict(entry.parameters),
                protocol=entry.protocol,
                variant="subset" if entry.dataset == entries[0].dataset else "full",
                attributes={entry.attribute: metrics},
                status="failed" if index == 1 else "ok",
                reason=HOSTILE if index == 1 else None,
            )
            rows[f"{row['key']} {entry.attribute}"] = row
    merged: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        known = merged.setdefault(row["key"], row)
        known["attributes"] = {**known["attributes"], **row["attributes"]}
    return list(merged.values())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_a_real_latex_compiles_every_table_empty_filled_and_hostile(tmp_path: Path, golden: ReportTable) -> None:
    published = read_published()
    tables = [golden]
    for name in table_ids():
        spec = load_spec(name)
        tables += [collect(spec, [], published), collect(spec, filled(spec), published)]
    spec = load_spec("5")
    hostile = spec.model_copy(
        update={
            "title": HOSTILE,
            "caption": HOSTILE,
            "notes": (HOSTILE, HOSTILE),
            "blocks": tuple(block.model_copy(update={"label": f"[{HOSTILE}"}) for block in spec.blocks),
            "rows": tuple(row.model_copy(update={"label": f"*{HOSTILE}"}) for row in spec.rows),
            "columns": tuple(c.model_copy(update={"label": HOSTILE, "group": f"[{HOSTILE}"}) for c in spec.columns),
        }
    )
    tables.append(collect(hostile, filled(spec), published))
    lines = tuple("".join(map(chr, range(start, start + 128))) for start in range(0, 0x2500, 128))
    letters = spec.model_copy(update={"notes": lines})
    tables.append(collect(letters, []))
    (tmp_path / "all.tex").write_text(latex_document(tables, published=True), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    log = (tmp_path / "all.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    assert "Missing character" not in log


@pytest.mark.parametrize("name", table_ids())
def test_every_table_is_rendered_in_every_form(name: str) -> None:
    spec = load_spec(name)
    empty, full = (collect(spec, rows, read_published()) for rows in ([], filled(spec)))
    assert {cell.status for cell in empty.cells} == {"missing"}
    assert {cell.status for cell in full.cells} <= {"ok", "failed"}
    for table in (empty, full):
        body = latex_table(table, published=True)
        assert body.count(r"\begin{") == body.count(r"\end{")
        lines = [line for line in markdown_table(table, published=True).splitlines() if line.startswith("|")]
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
        assert len(csv_table(table).splitlines()) == 1 + len(table.cells)
    assert "no stored rows yet" in markdown_table(empty)


def panel_points(table: ReportTable, panel: int) -> tuple[set[float], set[float]]:
    """Return the x positions of the dots in a panel, and those of its vertical lines."""
    axes = draw_table(table).axes[panel]
    first = [(float(np.asarray(line.get_xdata())[0]), line.get_marker()) for line in axes.lines]
    dots = {x for x, marker in first if marker in ("o", "s", "D")}
    vertical = {x for x, marker in first if marker in ("None", None, "")}
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


def test_a_report_is_written_as_files_named_after_the_table(tmp_path: Path, golden: ReportTable) -> None:
    written = write_report(golden, tmp_path / "out", plot=False)
    assert [path.name for path in written] == ["golden.tex", "golden.md", "golden.csv"]
    assert written[0].read_text(encoding="utf-8") == GOLDEN_LATEX


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_shows_every_number_at_any_width(golden: ReportTable, width: int) -> None:
    from rich.console import Console

    stream = io.StringIO()
    print_table(golden, Console(file=stream, width=width))
    text = stream.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    for number in ("0.400 ± 0.010", "0.424 ± Δ", "0.4190 ± <0.01", "0.390 ± 0.014 b", "0.850 ± Δ", "0.410 ± 0.010"):
        assert number in text
    # One label column a part: the narrow console needs three parts, the wide one a single one.
    assert text.count("VSAE_x ") == {40: 3, 80: 1, 200: 1}[width]


def test_rendering_loads_no_heavy_package() -> None:
    code = (
        "import sys, bench.experiment.spec, bench.report as r, bench.report.latex as l, bench.report.markdown as m\n"
        "import bench.report.csv as c, bench.report.terminal as t\n"
        "table = r.collect(bench.experiment.spec.load_spec('6'), [], r.read_published())\n"
        "l.latex_table(table), m.markdown_table(table), c.csv_table(table), t.print_table(table)\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_cell_without_values_has_no_mean(spec: TableSpec) -> None:
    cell = ReportCell(spec.entries()[0], "missing", 3)
    assert cell.mean is None and cell.sd is None and cell.n == 0 and cell.difference is None
