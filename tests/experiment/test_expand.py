"""Cells and jobs: what identity is made of, what is stacked, what the filters let through."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import engine_version
from bench.errors import BenchError
from bench.experiment.cell import STACKED_OVER, Cell
from bench.experiment.expand import (
    cells_of,
    chosen_cells,
    jobs_of,
    require_known_filters,
    stand_ins,
    with_seeds_of,
    with_stand_ins,
    with_user_plugins,
)
from bench.experiment.presets import PRESETS, budget_for
from bench.experiment.reader import load_spec, parse_spec
from bench.experiment.scope import Scope
from bench.experiment.specs import TableSpec
from bench.plugins.registry import Registry
from bench.run.plan import waiting_jobs
from bench.run.store import Store
from tests.toys import (
    DATA,
    MECHANISM,
    MEDIAN,
    PATIENT,
    cells_for,
    command_environment,
    contents_for,
    jobs_for,
    make_cell,
    make_job,
    make_result,
    method_source,
    table_text,
    write_plugins,
)

KNOBS = method_source(
    "knobs", extra='parameter_sets = {"default": {"depth": 2, "rate": 0.5}, "literal": {"depth": 9, "rate": 0.5}}'
)
REFITS = method_source("refits", extra='protocols = ("transductive",)')


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSAE_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = {"data": DATA, "median": MEDIAN, "patient": PATIENT, "stripes": MECHANISM, "knobs": KNOBS}
    return write_plugins(tmp_path_factory.mktemp("plugins"), refits=REFITS, **sources)


@pytest.fixture(scope="module")
def registry(folder: Path) -> Registry:
    return Registry.scan([folder])


def cells_from(text: str, registry: Registry, **scope: Any) -> list[Cell]:
    chosen = Scope(**{"preset": "smoke", **scope})
    spec = with_seeds_of(chosen, [parse_spec(text, "toy.toml")])[0]
    contents = contents_for(registry, "toy_mixed", "toy_numbers")
    return cells_of(chosen_cells(spec, chosen), spec, chosen, registry, contents)


# Identity


def test_the_key_is_the_hash_of_canonical_json() -> None:
    cell = make_cell()
    text = json.dumps(cell.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert cell.key == hashlib.sha256(text.encode()).hexdigest()


def test_a_fixed_cell_keeps_its_key() -> None:
    """Stored rows are found by it: a change here orphans every row there is, so it must be meant."""
    key = "2d745bcad2c0a11210700d1b4228060f45b8d5d724b60afebecadfe6eb811eb4"
    assert make_cell(budget={"steps": 30}).key == key


def test_the_key_knows_no_path_clock_process_or_environment(tmp_path: Path) -> None:
    program = (
        "import sys, json; from bench.experiment.cell import Cell; print(Cell.from_json(json.load(sys.stdin)).key)"
    )
    cell = make_cell()
    told = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(cell.as_json()),
        text=True,
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=command_environment(tmp_path, PYTHONHASHSEED="7", TZ="Pacific/Chatham", LC_ALL="C"),
    )
    assert told.stdout.strip() == cell.key
    assert {field.name for field in dataclasses.fields(Cell)} == {
        "dataset",
        "content",
        "include_target",
        "mechanism",
        "mechanism_version",
        "mechanism_parameters",
        "mechanism_overrides",
        "ratio",
        "method",
        "method_version",
        "parameter_set",
        "overrides",
        "parameters",
        "seed",
        "repeat",
        "protocol",
        "preset",
        "budget",
        "engine",
        "precision",
    }


def test_plugins_that_move_to_another_folder_keep_their_keys(tmp_path: Path, registry: Registry) -> None:
    moved = Registry.scan([write_plugins(tmp_path / "elsewhere", all_data=DATA, all_median=MEDIAN)])
    before, after = (cells_for(r, ("column_median",)) for r in (registry, moved))
    assert [cell.key for cell in before] == [cell.key for cell in after]


def test_a_cell_survives_json() -> None:
    cell = make_cell(mechanism_parameters={"p_observed": 0.3}, ratio=0.1)
    again = Cell.from_json(json.loads(json.dumps(cell.as_json())))
    assert again == cell
    assert again.key == cell.key
    assert hash(again) == hash(cell)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "snow"),
        ("content", "00fe"),
        ("include_target", True),
        ("mechanism", "mar"),
        ("mechanism_version", 2),
        ("mechanism_parameters", {"tilt": 0.1}),
        ("mechanism_overrides", {"tilt": 0.1}),
        ("ratio", 0.3),
        ("method", "guess_more"),
        ("method_version", 3),
        ("parameter_set", "literal"),
        ("overrides", {"depth": 4}),
        ("parameters", {"depth": 3, "rate": 0.2}),
        ("seed", 1),
        ("repeat", "initialisation"),
        ("protocol", "transductive"),
        ("preset", "quick"),
        ("budget", {"steps": 31}),
        ("engine", 2),
        ("precision", "high"),
    ],
)
def test_every_field_changes_the_key(field: str, value: object) -> None:
    assert make_cell(**{field: value}).key != make_cell().key


def test_only_what_uses_torch_has_a_precision_and_the_highest_goes_without_saying(registry: Registry) -> None:
    cells = cells_for(registry, ("vae", "column_median"), precision="medium")
    assert {(cell.method, cell.precision) for cell in cells} == {("vae", "medium"), ("column_median", "highest")}
    by_default = cells_for(registry, ("vae", "column_median"))
    assert [cell.key for cell in by_default if cell.method == "vae"] != [c.key for c in cells if c.method == "vae"]
    for cell in (*cells, *by_default):
        assert ("precision" in cell.as_json()) is (cell.precision != "highest")
        assert Cell.from_json(cell.as_json()) == cell
    both = [cell for cell in (*cells, *by_default) if cell.method == "vae"]
    assert [{cell.precision for cell in job.cells} for job in jobs_of(both, registry)] == [{"medium"}, {"highest"}]


def test_the_engine_of_a_cell_is_the_newest_of_its_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.ENGINE_VERSIONS", {"numeric": 3, "categorical": 1, "image": 5})
    assert engine_version(("numeric", "categorical")) == 3
    assert engine_version(("categorical", "image")) == 5


@pytest.mark.parametrize("kinds", [("numeric",), ("categorical",), ("image", "categorical"), ("features",)])
def test_each_preset_does_at_least_what_the_one_before_it_does(kinds: tuple[str, ...]) -> None:
    budgets = [budget_for(preset, kinds) for preset in PRESETS]
    assert [budget.preset for budget in budgets] == list(PRESETS)
    for less, more in itertools.pairwise(budgets):
        assert (more.steps or math.inf) > (less.steps or 0)
        assert more.draws >= less.draws and more.trees >= less.trees and more.sweeps >= less.sweeps
        assert more.target_draws >= less.target_draws and more.validation_draws >= less.validation_draws
    with pytest.raises(BenchError, match="unknown preset 'lnog'. Did you mean 'long'"):
        budget_for("lnog", kinds)


def test_every_field_is_tried_above() -> None:
    marks = test_every_field_changes_the_key.pytestmark  # type: ignore[attr-defined]
    assert {field for field, _ in marks[0].args[1]} == {field.name for field in dataclasses.fields(Cell)}


def test_only_the_initialisation_is_redrawn_where_the_spec_says_so() -> None:
    assert [make_cell(seed=seed).data_seed for seed in (0, 1, 2)] == [0, 1, 2]
    assert [make_cell(seed=seed, repeat="initialisation").data_seed for seed in (0, 1, 2)] == [0, 0, 0]


# Parameters


def test_overrides_and_parameter_sets(registry: Registry) -> None:
    text = table_text(("knobs", "mean_mode")).replace('"knobs"\n[', '"knobs"\nparameters = { depth = 5 }\n[')
    by_method = {}
    for name in ("default", "literal"):
        for cell in cells_from(text, registry, parameter_set=name):
            by_method[cell.method, name] = cell
    assert by_method["knobs", "default"].parameters == {"depth": 5, "rate": 0.5}
    assert by_method["knobs", "default"].overrides == {"depth": 5}
    assert by_method["knobs", "literal"].parameter_set == "literal"
    plain = cells_from(table_text(("knobs",)), registry, parameter_set="literal")[0]
    assert (plain.parameters, plain.overrides) == ({"depth": 9, "rate": 0.5}, {})
    # A method that has no such set runs with its default one, under that name, and so once.
    assert by_method["mean_mode", "literal"] == by_method["mean_mode", "default"]
    assert by_method["mean_mode", "literal"].parameter_set == "default"


def test_a_parameter_that_the_method_does_not_have_is_named(registry: Registry) -> None:
    text = table_text(("knobs",)).replace('"knobs"\n[', '"knobs"\nparameters = { deepth = 5 }\n[')
    with pytest.raises(BenchError, match=r"^method 'knobs' has no parameter 'deepth'\. Did you mean 'depth'\?$"):
        cells_from(text, registry)


def test_mechanism_parameters_and_what_the_spec_said_of_them(registry: Registry) -> None:
    text = table_text(("mean_mode",)).replace('mechanism = "mcar"', 'mechanism = "stripes"')
    plain = cells_from(text, registry)[0]
    assert (plain.mechanism_parameters, plain.mechanism_overrides) == ({"tilt": 0.2}, {})
    tilted = cells_from(text.replace("ratio = 0.5", "ratio = 0.5\nmechanism_parameters = { tilt = 0.4 }"), registry)[0]
    assert (tilted.mechanism_parameters, tilted.mechanism_overrides) == ({"tilt": 0.4}, {"tilt": 0.4})
    assert tilted.key != plain.key


def test_a_transductive_method_may_not_pass_as_inductive(registry: Registry) -> None:
    with pytest.raises(BenchError) as caught:
        cells_from(table_text(("refits",)), registry)
    message = str(caught.value)
    assert "\n" not in message
    assert "'refits' is transductive and may not pass as inductive" in message
    fine = table_text(("refits",)).replace('"refits"\n[', '"refits"\nprotocol = "transductive"\n[')
    assert {cell.protocol for cell in cells_from(fine, registry)} == {"transductive"}


def test_a_broken_mechanism_is_an_error_of_its_own(tmp_path: Path) -> None:
    broken = write_plugins(tmp_path, data=DATA, stripes="from bench.api import Mechanism\n\nclass Stripes(Mechanism:\n")
    registry = Registry.scan([broken])
    text = table_text(("mean_mode",)).replace('mechanism = "mcar"', 'mechanism = "stripes"')
    with pytest.raises(BenchError, match=r"stripes\.py:3: SyntaxError"):
        cells_from(text, registry)


# Jobs


@pytest.fixture(scope="module")
def grid(registry: Registry) -> list[Cell]:
    columns = "".join(
        f'[[columns]]\nlabel = "c"\ndataset = "{dataset}"\nmechanism = "{mechanism}"\nratio = {ratio}\nmetric = "mse"\n'
        for dataset in ("toy_mixed", "toy_numbers")
        for mechanism in ("mcar", "stripes")
        for ratio in (0.3, 0.5)
    )
    return cells_from(table_text(("patient", "column_median"), ()) + columns, registry)


def test_stacks_run_over_seeds_mechanisms_and_ratios_only(grid: list[Cell], registry: Registry) -> None:
    assert len(grid) == 2 * 2 * 2 * 2 * 3
    jobs = jobs_of(grid, registry)
    stacks = [job for job in jobs if job.cells[0].method == "patient"]
    assert [len(job.cells) for job in stacks] == [12, 12]
    for job in stacks:
        assert len({(cell.seed, cell.mechanism, cell.ratio) for cell in job.cells}) == 12
        shapes = {json.dumps({k: v for k, v in c.as_json().items() if k not in STACKED_OVER}) for c in job.cells}
        assert len(shapes) == 1
    # A method that does not stack has one job a cell.
    assert [len(job.cells) for job in jobs if job.cells[0].method == "column_median"] == [1] * 24
    assert sorted(cell.key for job in jobs for cell in job.cells) == sorted(cell.key for cell in grid)


@pytest.mark.parametrize("change", [{"parameters": {"epochs": 2}}, {"protocol": "x"}, {"preset": "quick"}])
def test_what_else_differs_is_another_job(grid: list[Cell], registry: Registry, change: Mapping[str, Any]) -> None:
    stacked = [cell for cell in grid if cell.method == "patient" and cell.dataset == "toy_mixed"]
    other = [dataclasses.replace(cell, **change) for cell in stacked]
    assert [len(job.cells) for job in jobs_of([*stacked, *other], registry)] == [12, 12]


def test_a_job_is_a_function_of_the_spec_not_of_the_store(registry: Registry, tmp_path: Path) -> None:
    cells = cells_for(registry, ("patient",))
    (whole,) = jobs_of(cells, registry)
    store = Store(tmp_path)
    store.put([make_result(cells[1])])
    (waiting,) = waiting_jobs(cells, [whole], store, False)
    assert waiting.cells == tuple(cells)
    assert waiting.key == whole.key
    store.put([make_result(cells[0]), make_result(cells[2], "failed")])
    assert waiting_jobs(cells, [whole], store, False) == []
    assert waiting_jobs(cells, [whole], store, True) == [whole]


def test_labels_say_which_job_it_is(registry: Registry, grid: list[Cell]) -> None:
    cell = make_cell()
    assert make_job(cell).label == "guess, depth=3 on rain, mcar 0.5, seed 0"
    assert make_job(cell, make_cell(seed=1)).label == "guess, depth=3 on rain, mcar 0.5"
    labels = [job.label for job in jobs_of(grid, registry)]
    assert len(set(labels)) == len(labels)


# Filters and the user's own plug-ins


def spec_of(methods: tuple[str, ...], datasets: tuple[str, ...] = ("toy_mixed",), more: str = "") -> TableSpec:
    return parse_spec(table_text(methods, datasets, more), "toy.toml")


def test_filters(registry: Registry) -> None:
    text = table_text(("mean_mode", "column_median"), ("toy_mixed", "toy_numbers"))
    cells = cells_from(text, registry, methods=("column_median",), datasets=("toy_numbers",), seeds=(2, 0))
    assert [(cell.method, cell.dataset, cell.seed) for cell in cells] == [
        ("column_median", "toy_numbers", 2),
        ("column_median", "toy_numbers", 0),
    ]
    # A filter never changes what a cell is.
    assert {cell.key for cell in cells} < {cell.key for cell in cells_from(text, registry)}


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ({"methods": ("column_medien",)}, ("unknown method 'column_medien'", "Did you mean 'column_median'?")),
        ({"methods": ("mice",)}, ("toy has no method 'mice', only column_median, mean_mode;", "grid of your own")),
        ({"datasets": ("toy_mixt",)}, ("unknown data set 'toy_mixt'", "Did you mean 'toy_mixed'?")),
        ({"datasets": ("yeast",)}, ("toy has no data set 'yeast', only toy_mixed;", "grid of your own")),
    ],
)
def test_a_filter_that_names_nothing_is_one_clear_line(
    registry: Registry, scope: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(BenchError) as caught:
        require_known_filters([spec_of(("mean_mode", "column_median"))], Scope(**scope), registry)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_filter_holds_for_all_tables_together(registry: Registry) -> None:
    specs = [spec_of(("mean_mode",)), spec_of(("column_median",), ("toy_numbers",), "seeds = [5]")]
    scope = Scope(preset="smoke", methods=("mean_mode", "column_median"), datasets=("toy_numbers",))
    require_known_filters(specs, scope, registry)
    contents = contents_for(registry, "toy_mixed", "toy_numbers")
    found = [cells_of(chosen_cells(s, scope), s, scope, registry, contents) for s in specs]
    assert [[(cell.method, cell.seed) for cell in cells] for cells in found] == [[], [("column_median", 5)]]


def test_seeds_that_are_asked_for_take_the_place_of_a_tables_own(registry: Registry) -> None:
    """Three seeds are the paper's; a verdict may need ten, and the rows of the first three are the same rows."""
    text = table_text(("mean_mode",))
    more = cells_from(text, registry, seeds=(0, 1, 2, 7, 7))
    assert [cell.seed for cell in more] == [0, 1, 2, 7]
    assert {cell.key for cell in cells_from(text, registry)} == {cell.key for cell in more[:3]}


def test_a_row_of_other_presets_runs_only_where_it_is_named(registry: Registry) -> None:
    spec = spec_of(("mean_mode", "column_median"))
    large = spec.rows[1].model_copy(update={"presets": ("paper",)})
    spec = spec.model_copy(update={"rows": (spec.rows[0], large)})

    def methods(preset: str, *named: str) -> list[str]:
        chosen = chosen_cells(spec, Scope(preset=preset, methods=named))
        return list(dict.fromkeys(cell.method for cell in chosen))

    assert methods("quick") == methods("smoke") == ["mean_mode"]
    assert methods("paper") == ["mean_mode", "column_median"]
    assert methods("quick", "column_median") == ["column_median"]
    require_known_filters([spec], Scope(preset="quick", methods=("column_median",)), registry)


def test_the_users_plugins_join_every_table(registry: Registry) -> None:
    spec = with_user_plugins(spec_of(("mean_mode", "column_median")), registry)
    assert [row.method for row in spec.rows] == ["mean_mode", "column_median", "knobs", "patient", "refits"]
    assert [row.protocol for row in spec.rows[2:]] == ["inductive", "inductive", "transductive"]
    assert all(row.reference for row in spec.rows[2:])
    assert [column.dataset for column in spec.columns] == ["toy_mixed", "toy_numbers", "toy_numbers"]
    # Where the blocks of a table are data sets, a further one is no column.
    assert load_spec("table5").sections[0].dataset is not None
    assert with_user_plugins(load_spec("table5"), registry).columns == load_spec("table5").columns


def test_a_stand_in_takes_the_place_of_a_data_set_and_compares_with_no_paper() -> None:
    suite = Registry.scan()
    assert stand_ins(suite) == {"mnist_svhn": "mnist_svhn_stand_in"}
    for name in ("8", "9"):
        spec = load_spec(name)
        (changed,) = with_stand_ins([spec], suite)
        assert {cell.dataset for cell in spec.cells()} == {"mnist_svhn"}
        assert any(cell.published for cell in spec.cells())
        assert not any(cell.stands_in_for for cell in spec.cells())
        for before, cell in zip(spec.cells(), changed.cells(), strict=True):
            assert (cell.dataset, cell.stands_in_for) == ("mnist_svhn_stand_in", "mnist_svhn")
            assert cell.published is None
            assert dataclasses.replace(before, dataset="", published=None) == dataclasses.replace(
                cell, dataset="", stands_in_for=""
            )
        assert changed.id == f"{spec.id}_stand_in" and "SYNTHETIC" in changed.title
    others = with_stand_ins([load_spec("7"), load_spec("8")], suite)
    assert others[0] == load_spec("7")
    with pytest.raises(BenchError, match="no data set of table07 and table10 has a stand-in"):
        with_stand_ins([load_spec("7"), load_spec("10")], suite)


def test_a_plugin_that_cannot_be_read_stops_nobody(tmp_path: Path) -> None:
    write_plugins(tmp_path, data=DATA, median=MEDIAN, broken="from bench.api import Method\n\nclass Broken(Method:\n")
    registry = Registry.scan([tmp_path])
    spec = with_user_plugins(spec_of(("mean_mode",)), registry)
    assert [row.method for row in spec.rows] == ["mean_mode", "broken", "column_median"]
    cells = cells_of(spec.cells(), spec, Scope(preset="smoke"), registry, contents_for(registry, "toy_mixed"))
    assert {cell.method for cell in cells} == {"mean_mode", "broken", "column_median"}


def test_the_jobs_of_a_shipped_table_are_stacks_of_its_seeds(registry: Registry) -> None:
    (job,) = jobs_for(registry, ("vsae",))
    assert [cell.seed for cell in job.cells] == [0, 1, 2]
    assert len(jobs_for(registry, ("mean_mode",))) == 3
