"""One job to rows: whatever a plug-in does, a row says so, and only hidden test entries are scored."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from bench.errors import BenchError, Stopped
from bench.experiment.cell import Job
from bench.experiment.expand import cells_of, jobs_of
from bench.experiment.reader import parse_spec
from bench.experiment.result import Result
from bench.experiment.scope import Scope
from bench.plugins.registry import Registry
from bench.report import collect, read_published
from bench.report.text import warning_notes
from bench.run.fit import problem_of
from bench.run.job import as_plain_json, run_job, too_wide
from bench.run.machine import Machine
from bench.run.progress import RunProgress
from bench.seeds import canonical_json
from tests.toys import (
    DATA,
    MEDIAN,
    PATIENT,
    ZEROS,
    contents_for,
    jobs_for,
    make_cell,
    method_source,
    numbers_of,
    table_text,
    write_plugins,
)

#: What every row of a user's plug-in has, whatever came of it.
FIELDS = {
    "plugin_sources",
    "key",
    "cell",
    "status",
    "reason",
    "variant",
    "source",
    "missing_ratio",
    "mask_hash",
    "metrics",
    "attributes",
    "counts",
    "seconds",
    "processor_seconds",
    "peak_memory_mib",
    "diagnostics",
    "warnings",
    "environment",
    "stack",
}
#: Says what precision it computed with, as any method that uses torch could.
PRECISE = '''
import torch
from bench.api import Method


class Precise(Method):
    """Fills with 0."""

    name = "precise"
    requires = ("torch",)

    def fit(self, train, validation, seed):
        self.precision = torch.get_float32_matmul_precision()

    def impute(self, data, draws):
        frame = data.frame()
        return frame.fillna({c: frame[c].cat.categories[0] if hasattr(frame[c], "cat") else 0.0 for c in frame})

    def diagnostics(self):
        return [{"precision": self.precision}]
'''

STACK_OF_TWO = '''
from bench.api import StackedMethod, Values


class Stack(StackedMethod):
    """Stacks, and returns what its parameters say."""

    name = "stack"
    parameter_sets = {"default": {"imputations": 3, "diagnostics": 3}, "literal": {"imputations": 2, "diagnostics": 3},
                      "tuned": {"imputations": 3, "diagnostics": 1}}

    def fit_many(self, train, validation, seeds):
        self.seeds = list(seeds)

    def impute_many(self, data, draws):
        import numpy as np

        some = range(self.parameters["imputations"])
        return [Values(np.nan_to_num(data.values(replica).scalars, nan=float(replica)), {}) for replica in some]

    def diagnostics(self):
        return [{"seed": seed} for seed in self.seeds][: self.parameters["diagnostics"]]
'''


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))


def registry_with(tmp_path: Path, **sources: str) -> Registry:
    return Registry.scan([write_plugins(tmp_path / "plugins", data=DATA, **sources)])


def rows_of(job: Job, **machine: Any) -> list[dict[str, Any]]:
    """Return the results of a job as the rows that are stored, back from JSON."""
    return [json.loads(canonical_json(result.as_json())) for result in run_job(job, Machine(**machine))]


def rows_from(tmp_path: Path, source: str, dataset: str = "toy_mixed") -> list[dict[str, Any]]:
    """Return the rows of the first job of the method ``mine``, as they come back from JSON."""
    registry = registry_with(tmp_path, mine=source)
    return rows_of(jobs_for(registry, ("mine",), dataset)[0])


# Failures are rows


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (method_source("mine", fit='raise ValueError("no\\nluck")'), "ValueError: no"),
        (method_source("mine", impute="return 1 / 0"), "ZeroDivisionError: division by zero"),
        (method_source("mine", fit="sys.exit(3)"), "SystemExit: 3"),
        (method_source("mine", fit="import nothing_of_the_kind"), "ModuleNotFoundError: No module named"),
        (method_source("mine", extra="version = 1\n    def __init__(self): pass"), "TypeError: "),
        ("from bench.api import Method\nclass M(Method):\n    name = 'mine'\n", "TypeError: method 'mine' does not"),
    ],
)
def test_whatever_is_raised_is_a_failed_row_with_its_reason_and_traceback(
    tmp_path: Path, source: str, reason: str
) -> None:
    (row,) = rows_from(tmp_path, source)
    assert row["status"] == "failed"
    assert row["reason"].startswith(reason)
    assert "\n" not in row["reason"]
    assert "Traceback" in row["traceback"]
    assert set(row) == FIELDS | {"traceback", "cause", "attempts"}
    assert (row["cause"], row["attempts"]) == ("method", 1)
    assert row["metrics"] == {}


@pytest.mark.parametrize(
    ("impute", "reason"),
    [
        ("return data.frame()", "imputed values of attribute 'first' are NaN or infinite (and of 3 more)"),
        ("v = data.values(); return Values(np.full(v.scalars.shape, np.inf), {})", "NaN or infinite"),
        ("return Values(np.zeros((len(data), 2)), {})", "imputed values have shape (12, 2), the data (12, 4)"),
        ("return data.frame().iloc[1:]", "have shape (11, 4), the data (12, 4)"),
        ("return data.frame().drop(columns='kind')", "column 'kind' is missing"),
        ("f = data.frame(); f['kind'] = 'purple'; return f", "'purple'"),
        ("return np.zeros((12, 4))", "method 'mine' returned ndarray from impute, not a DataFrame"),
        ("return None", "method 'mine' returned NoneType from impute"),
    ],
)
def test_values_that_cannot_be_scored_are_a_failed_row(tmp_path: Path, impute: str, reason: str) -> None:
    (row,) = rows_from(tmp_path, method_source("mine", impute=impute))
    assert row["status"] == "failed"
    assert row["reason"].startswith("BenchError: ")
    assert reason in row["reason"]
    assert row["traceback"] == ""


def test_a_plugin_that_fails_on_import_is_a_failed_row(tmp_path: Path) -> None:
    (row,) = rows_from(tmp_path, method_source("mine") + "\nraise RuntimeError('not today')\n")
    assert row["status"] == "failed"
    assert "mine.py" in row["reason"]
    assert "RuntimeError: not today" in row["reason"]


def test_a_stack_must_return_one_imputation_and_one_diagnosis_a_replica(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, stack=STACK_OF_TWO)
    (good,) = jobs_for(registry, ("stack",))
    rows = rows_of(good)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert [row["diagnostics"] for row in rows] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert all(row["stack"] == [cell.key for cell in good.cells] for row in rows)
    # Each replica is scored by its own imputation: filling with 0, 1 and 2 is worse and worse for the third column.
    errors = [row["attributes"]["third"]["rmse"] for row in rows]
    assert errors == sorted(errors)
    for name, words in (("literal", "returned 2 imputations for 3"), ("tuned", "gave 1 diagnostics for 3")):
        (bad,) = jobs_for(registry, ("stack",), parameter_set=name)
        rows = rows_of(bad)
        assert [row["status"] for row in rows] == ["failed"] * 3
        assert all(words in row["reason"] for row in rows)


def test_other_data_are_a_failed_row_and_an_unknown_method_makes_no_job(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, median=MEDIAN)
    with pytest.raises(BenchError, match="unknown method 'guess'"):
        jobs_of([make_cell()], registry)
    (job, *_) = jobs_for(registry, ("column_median",))
    other = make_cell(**{**job.cells[0].as_json(), "content": "0123"})
    (row,) = rows_of(Job((other,), job.plugins))
    assert row["status"] == "failed"
    assert "data set 'toy_mixed' has changed since this run began" in row["reason"]


# Skips


def test_a_missing_package_skips_with_the_command_that_installs_it(tmp_path: Path) -> None:
    needs = 'requires = ("package_that_is_not_there",)'
    (row,) = rows_from(tmp_path, method_source("mine", extra=needs))
    assert row["status"] == "skipped"
    assert row["reason"] == "needs package_that_is_not_there: pip install package_that_is_not_there"
    (row,) = rows_from(tmp_path, method_source("mine", extra=f'{needs}\n    extra = "paper"'))
    assert row["reason"] == "needs package_that_is_not_there: pip install 'vsae-bench[paper]'"
    assert set(row) == FIELDS - {"processor_seconds"}


def test_other_kinds_of_attributes_are_skipped(tmp_path: Path) -> None:
    source = method_source("mine", impute=ZEROS, extra='kinds = ("numeric",)')
    (row,) = rows_from(tmp_path, source, "toy_mixed")
    assert (row["status"], row["reason"]) == ("skipped", "does not take categorical attributes")
    assert row["seconds"] == 0
    (row,) = rows_from(tmp_path, source, "toy_numbers")
    assert row["status"] == "ok"


def test_more_attributes_than_a_method_takes_are_skipped(tmp_path: Path) -> None:
    source = method_source("mine", impute=ZEROS, extra="max_attributes = 3")
    (row,) = rows_from(tmp_path, source, "toy_mixed")
    assert (row["status"], row["reason"]) == ("skipped", "takes at most 3 attributes, not 4")
    assert row["counts"] == {"attributes": 4}
    (row,) = rows_from(tmp_path, source, "toy_numbers")
    assert row["status"] == "ok"


def test_more_encoded_columns_than_a_method_takes_are_skipped_now_and_later(tmp_path: Path) -> None:
    source = method_source("mine", impute=ZEROS, extra="max_width = 5")
    (row,) = rows_from(tmp_path, source, "toy_mixed")
    reason = "takes at most 5 encoded columns (a category has one per level), not 6"
    assert (row["status"], row["reason"]) == ("skipped", reason)
    assert row["counts"] == {"attributes": 4, "width": 6}
    (row,) = rows_from(tmp_path, source, "toy_numbers")
    assert row["status"] == "ok"


def test_an_identifier_is_skipped_by_methods_that_it_would_drown() -> None:
    methods = Registry.scan().methods
    assert all(too_wide(methods[name], 3, 20_002) for name in ("mice", "missforest_inductive", "latent_class"))
    assert not any(too_wide(methods[name], 3, 20_002) for name in ("mean_mode", "hot_deck", "class_mean"))
    assert too_wide(methods["vae"], 3, 100_002) and not too_wide(methods["mean_mode"], 3, 10**9)


def test_a_plugin_that_cannot_be_read_is_skipped_with_its_error(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, broken="from bench.api import Method\nclass Broken(Method:\n")
    (row,) = rows_of(jobs_for(registry, ("broken",))[0])
    assert row["status"] == "skipped"
    assert "broken.py:2: SyntaxError" in row["reason"]


# What is scored


def test_a_row_is_complete(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, median=MEDIAN)
    job = jobs_for(registry, ("column_median",))[1]
    (row,) = rows_of(job, threads=1)
    assert set(row) == FIELDS | {"ratios"}
    assert row["ratios"].keys() == {"all", "maskable", "rows"} and row["ratios"]["maskable"] == row["missing_ratio"]
    assert (row["key"], row["cell"], row["status"]) == (job.cells[0].key, job.cells[0].as_json(), "ok")
    assert row["stack"] == [row["key"]]
    assert row["variant"] == "full"
    assert 0.35 < row["missing_ratio"] < 0.65
    assert len(row["mask_hash"]) == 64
    assert row["seconds"] >= 0
    assert row["peak_memory_mib"] > 10
    assert {"all", "something_observed"} <= set(row["metrics"])
    assert {"nrmse_rel", "nrmse_std", "nrmse_range", "pfc", "mse", "mae"} <= set(row["metrics"]["all"])
    assert set(row["attributes"]) == {"first", "second", "third", "kind"}
    expected = {"suite", "commit", "dirty", "python", "processor", "memory_gib", "packages", "device", "threads"}
    assert expected <= set(row["environment"])
    assert row["environment"]["memory_gib"] > 0.1
    canonical_json(row)


def test_the_score_is_that_of_the_hidden_test_entries(tmp_path: Path) -> None:
    """Against pandas alone: the median of what the mask shows of the training rows, in what it hides of the test's."""
    from bench.files.fetch import load_table
    from bench.plugins.registry import load

    registry = registry_with(tmp_path, median=MEDIAN)
    (job, *_) = jobs_for(registry, ("column_median",), "toy_numbers")
    (row,) = rows_of(job)
    table = load_table(load(registry.dataset("toy_numbers"))()).table
    problem = problem_of(job, table)
    frame = pd.DataFrame(table.scalars, columns=["first", "second"])
    mask, split = problem.masks[0], problem.splits[0]
    medians = frame.where(mask).iloc[split.train].median()
    for column, name in enumerate(frame.columns):
        hidden = [i for i in split.test if not mask[i, column]]
        rmse = math.sqrt(((frame[name].iloc[hidden] - medians[name]) ** 2).mean())
        assert row["attributes"][name]["rmse"] == pytest.approx(rmse)
        assert row["attributes"][name]["entries"] == len(hidden)
    assert row["counts"]["rows"] == len(split.test)


def test_observed_entries_that_a_method_changes_do_not_count(tmp_path: Path) -> None:
    faithful = "v = data.values(); return Values(np.where(np.isnan(v.scalars), 1.0, v.scalars), {})"
    careless = "return Values(np.ones((len(data), len(data.schema))), {})"
    (one,) = rows_from(tmp_path, method_source("mine", impute=faithful))
    (other,) = rows_from(tmp_path, method_source("mine", impute=careless))
    assert one["metrics"] == other["metrics"]
    assert one["attributes"] == other["attributes"]
    # NaN in an observed entry is put right as well: only hidden entries are the method's.
    holes = "v = data.values(); return Values(np.where(np.isnan(v.scalars), 1.0, np.nan), {})"
    (third,) = rows_from(tmp_path, method_source("mine", impute=holes))
    assert third["metrics"] == one["metrics"]


def test_a_transductive_method_sees_all_rows_and_is_scored_on_test_rows_alone(tmp_path: Path) -> None:
    source = method_source(
        "mine",
        fit="self.rows = len(train)",
        impute="assert len(data) == self.rows == 60; " + ZEROS,
        extra='protocols = ("inductive", "transductive")',
    )
    registry = registry_with(tmp_path, mine=source, zeros=method_source("zeros", impute=ZEROS))
    inductive = jobs_for(registry, ("zeros",))[0]
    transductive = make_cell(**{**inductive.cells[0].as_json(), "method": "mine", "protocol": "transductive"})
    (one,) = rows_of(inductive)
    (other,) = rows_of(*jobs_of([transductive], registry))
    assert other["status"] == "ok", other["reason"]
    assert other["counts"]["rows"] == 12
    assert other["metrics"] == one["metrics"]
    assert other["mask_hash"] == one["mask_hash"]


PICTURES = '''
import numpy as np

from bench.api import Attribute, Dataset, Schema, StackedMethod, Table, Values


class Pictures(Dataset):
    """Two hundred images of 64 x 64 pixels."""

    name = "pictures"
    kinds = ("image",)

    def load(self, files):
        pixels = np.random.default_rng(0).integers(0, 256, (200, 4096), dtype=np.uint8)
        schema = Schema((Attribute("image", "image", shape=(64, 64)),))
        return Table(schema, np.zeros((200, 0)), {"image": pixels}, np.ones((200, 1), dtype=bool))


class Grey(StackedMethod):
    """Grey images."""

    name = "grey"
    kinds = ("image",)

    def fit_many(self, train, validation, seeds):
        pass

    def impute_many(self, data, draws):
        return [
            Values(np.zeros((len(data), 0)), {"image": np.full((len(data), 4096), 0.5, dtype=np.float32)})
            for _ in range(data.replicas)
        ]
'''


def test_a_stack_holds_its_imputations_once_and_scores_one_replica_at_a_time(tmp_path: Path) -> None:
    registry = Registry.scan([write_plugins(tmp_path / "plugins", pictures=PICTURES)])
    (stack,) = jobs_for(registry, ("grey",), "pictures")
    one = stack.cells[0].as_json()
    machine = Machine()

    def peak(replicas: int) -> int:
        job = Job(tuple(make_cell(**{**one, "seed": seed}) for seed in range(replicas)), stack.plugins)
        run_job(job, machine)
        tracemalloc.start()
        try:
            assert {result.status for result in run_job(job, machine)} == {"ok"}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    imputation = 40 * 4096 * 4
    # Eight replicas more hold eight imputations more, and not sixteen.
    assert 7.5 * imputation < peak(9) - peak(1) < 9.5 * imputation


def test_diagnostics_become_plain_json(tmp_path: Path) -> None:
    notes = "[{'a': np.float32(0.5), 'b': [float('nan'), np.arange(2)], 3: os}]"
    extra = f"version = 1\n    def diagnostics(self): return {notes}"
    (row,) = rows_from(tmp_path, method_source("mine", impute=ZEROS, extra=extra))
    assert row["status"] == "ok", row["reason"]
    diagnostics = row["diagnostics"]
    assert (diagnostics["a"], diagnostics["b"]) == (0.5, [None, [0, 1]])
    assert diagnostics["3"].startswith("<module 'os'")


def test_as_plain_json() -> None:
    value = {"x": (np.int64(3), True, None, "s", -math.inf, np.bool_(False), np.float64(0.1)), "y": {1: set()}}
    plain = as_plain_json(value)
    assert plain == {"x": [3, True, None, "s", None, False, 0.1], "y": {"1": "set()"}}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


# The same again


def test_the_same_job_twice_gives_identical_numbers(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, median=MEDIAN)
    for name in ("vsae", "column_median"):
        job = jobs_for(registry, (name,))[0]
        first, second = (rows_of(job) for _ in range(2))
        assert {row["status"] for row in first} == {"ok"}, first[0]["reason"]
        assert [numbers_of(row) for row in first] == [numbers_of(row) for row in second]


def test_each_job_computes_with_its_own_precision_and_a_row_says_which(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, median=MEDIAN, precise=PRECISE)
    seen = {}
    for precision in ("medium", "high", "highest"):
        for name in ("precise", "column_median"):
            job = jobs_for(registry, (name,), precision=precision)[0]
            seen[name, precision] = rows_of(job)[0]
    for precision in ("medium", "high", "highest"):
        row = seen["precise", precision]
        assert row["status"] == "ok", row["reason"]
        assert row["diagnostics"] == {"precision": precision}
        assert row["cell"].get("precision", "highest") == precision
        assert "precision" not in seen["column_median", precision]["cell"]
    # What came last ran with the default again, whatever jobs were before it.
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_job_that_crosses_a_process_border_gives_the_same(tmp_path: Path) -> None:
    nested = "tunable = {'depth': ('choice', 1, [2, 3])}\n    parameter_sets = {'default': {'depth': [1, (2,)]}}"
    registry = registry_with(tmp_path, median=MEDIAN, nested=method_source("nested", impute=ZEROS, extra=nested))
    for name in ("column_median", "nested"):
        job = jobs_for(registry, (name,))[0]
        there = Job.from_json(json.loads(json.dumps(job.as_json())))
        assert there.key == job.key and [cell.key for cell in there.cells] == [cell.key for cell in job.cells]
        assert {row["status"] for row in rows_of(there)} == {"ok"}
        assert [numbers_of(row) for row in rows_of(there)] == [numbers_of(row) for row in rows_of(job)]


def test_a_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    bad = method_source("bad", fit="raise ValueError('no')")
    registry = registry_with(tmp_path, median=MEDIAN, bad=bad)
    for name in ("column_median", "bad"):
        for result in run_job(jobs_for(registry, (name,))[0], Machine()):
            assert Result.from_json(json.loads(json.dumps(result.as_json()))) == result


# Stops


def test_a_stop_is_passed_on(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, patient=PATIENT)
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise Stopped("time is up")

    with pytest.raises(Stopped, match="time is up"):
        rows_of(jobs_for(registry, ("patient",))[0], stop=stop)


def test_a_plugin_edited_during_the_run_stops_it_and_leaves_no_row(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, median=MEDIAN)
    job = jobs_for(registry, ("column_median",))[0]
    there = Job.from_json(json.loads(json.dumps(job.as_json())))
    write_plugins(tmp_path / "plugins", median=MEDIAN.replace("median()", "mean()"))
    for each in (job, there):
        with pytest.raises(Stopped, match=r"median\.py has changed since this run began"):
            run_job(each, Machine())


def test_a_failure_on_a_subset_says_that_it_was_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.files import fetch

    registry = registry_with(tmp_path, mine=method_source("mine", fit="raise ValueError('no')"))
    job = jobs_for(registry, ("mine",))[0]
    known = fetch.Content(job.cells[0].content, "subset", "wheel some==1")
    monkeypatch.setattr(fetch, "content_of", lambda dataset, include_target: known)
    (row,) = rows_of(job)
    assert (row["status"], row["variant"], row["source"]) == ("failed", "subset", "wheel some==1")


def test_real_data_give_a_complete_row(mirror: Path, tmp_path: Path) -> None:
    from bench.files.fetch import content_of
    from bench.plugins.registry import load

    registry = Registry.scan()
    content = content_of(load(registry.dataset("heart"))()).content_hash
    cell = make_cell(
        dataset="heart", content=content, method="mean_mode", method_version=1, overrides={}, parameters={}, seed=1
    )
    (row,) = rows_of(*jobs_of([cell], registry))
    assert row["status"] == "ok", row["reason"]
    assert row["counts"]["rows"] == 54
    assert row["metrics"]["all"]["nrmse_std"] == pytest.approx(1.0, abs=0.15)
    assert 0.2 < row["metrics"]["all"]["pfc"] < 0.6


def test_an_attribute_never_observed_in_training_is_filled_and_warned_of(tmp_path: Path) -> None:
    mechanism = """
import numpy as np
from bench.api import Mechanism


class Blank(Mechanism):
    name = "blank"

    def missing_probability(self, values, schema, ratio, rng, **parameters):
        hidden = np.zeros((len(values.scalars), len(schema)))
        hidden[:, 0] = 1.0
        return hidden
"""
    registry = registry_with(tmp_path, blank=mechanism)
    text = table_text(("mean_mode",), ("toy_mixed",)).replace('"mcar"', '"blank"').replace("0.5", "0.25")
    spec = parse_spec(text, "toy.toml")
    cells = cells_of(spec.cells(), spec, Scope(preset="smoke"), registry, contents_for(registry, "toy_mixed"))
    (job, *_) = jobs_of(cells, registry)
    results = run_job(job, Machine())
    assert [result.status for result in results] == ["ok"], results[0].reason
    assert results[0].warnings == ("never observed in training, so filled with 0 or the first level: first",)
    console = Console(record=True, width=200)
    RunProgress([job], {}, console).finished(job, results)
    assert "warning: mean_mode on toy_mixed" in console.export_text()
    report = collect(spec, results, read_published(), "smoke")
    assert "toy_mixed: never observed in training, so filled with 0 or the first level: first." in warning_notes(report)
