"""The verb ``check``: what it runs, what it prints, its exit code; built-in methods pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.api import BenchError
from bench.cli.app import main
from bench.conformance import suite, trial
from bench.conformance.dataset import DATASET_CHECKS
from bench.conformance.large import LARGE_METHOD_CHECKS
from bench.conformance.mechanism import MECHANISM_CHECKS
from bench.conformance.method import METHOD_CHECKS
from bench.conformance.suite import check_named, check_plugin, name_of, remedy_of
from bench.experiment.presets import budget_for
from bench.plugins.contracts import Budget
from bench.plugins.registry import PluginInfo, Registry, available
from bench.run.job import run_job
from bench.run.machine import Machine
from tests.conformance_toys import MIXED
from tests.toys import jobs_for


@pytest.mark.parametrize("name", ["mean_mode", "mice", "missforest", "missforest_inductive", "vsae"])
def test_built_in_methods_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = Registry.scan().method(name)
    usable, reason = available(info)
    if not usable:
        pytest.skip(reason)

    def short(preset: str, kinds: Sequence[str]) -> Budget:
        return replace(budget_for(preset, kinds), steps=8, evaluations=4, draws=4)

    monkeypatch.setattr(trial, "budget_for", short)
    lines: list[str] = []
    assert check_plugin(info, write=lines.append) == "ok", "\n".join(lines)
    assert len(lines) == len(METHOD_CHECKS)


def test_the_forests_and_the_chain_declare_how_wide_a_table_they_take() -> None:
    methods = Registry.scan().methods
    assert all(methods[name].max_attributes for name in ("mice", "missforest", "missforest_inductive"))
    assert methods["mean_mode"].max_attributes is methods["vsae"].max_attributes is None


def test_every_check_has_a_name_of_its_own_and_says_how_to_mend_what_it_finds() -> None:
    checks: list[Callable[[Any], None]] = [
        *METHOD_CHECKS,
        *LARGE_METHOD_CHECKS,
        *MECHANISM_CHECKS,
        *DATASET_CHECKS,
    ]
    names = [name_of(check) for check in checks]
    assert len(set(names)) == len(names)
    assert all(0 < len(name) < 80 and name != check.__name__ for name, check in zip(names, checks, strict=True))
    remedies = [remedy_of(check) for check in checks]
    assert len(set(remedies)) == len(remedies)
    assert all(remedy.endswith(".") and "\n" not in remedy for remedy in remedies)


# Too wide a table


PLUGINS = '''
import pandas as pd
import numpy as np

from bench.api import Dataset, Mechanism, Method


class Narrow(Method):
    """Takes two columns."""

    name = "narrow"
    kinds = ("numeric",)
    max_attributes = 2

    def impute(self, data, draws):
        return data.frame().fillna(1.0 * len(data.schema))


class Threes(Dataset):
    """Three columns."""

    name = "threes"
    kinds = ("numeric",)

    def load(self, files):
        return pd.DataFrame(np.arange(90.0).reshape(30, 3), columns=["a", "b", "c"])


class Twos(Threes):
    """Two columns."""

    name = "twos"

    def load(self, files):
        return super().load(files)[["a", "b"]]
'''


def test_a_job_on_too_wide_a_table_is_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "plugins.py").write_text(PLUGINS, encoding="utf-8")
    registry = Registry.scan([tmp_path])
    for dataset, status, reason in (("threes", "skipped", "takes at most 2 attributes, not 3"), ("twos", "ok", None)):
        job = jobs_for(registry, ("narrow",), dataset)[0]
        (row,) = run_job(job, Machine())
        assert (row.status, row.reason) == (status, reason)


@pytest.mark.parametrize("value", ["0", "'many'", "True", "len('ab')"])
def test_max_width_is_a_literal_whole_number(tmp_path: Path, value: str) -> None:
    (tmp_path / "plugins.py").write_text(PLUGINS.replace("max_attributes = 2", f"max_width = {value}"), "utf-8")
    assert "max_width of Narrow must be" in (Registry.scan([tmp_path]).method("narrow").error or "")


@pytest.mark.parametrize("value", ["0", "'many'", "True", "len('ab')"])
def test_max_attributes_is_a_literal_whole_number(tmp_path: Path, value: str) -> None:
    (tmp_path / "plugins.py").write_text(PLUGINS.replace("max_attributes = 2", f"max_attributes = {value}"), "utf-8")
    assert "max_attributes of Narrow must be" in (Registry.scan([tmp_path]).method("narrow").error or "")


# The listing


USERS = '''
import pandas as pd

from bench.api import Dataset, Method
from bench.data.source import File, Source


class Flat(Method):
    """Fills with zero and the first level."""

    name = "flat"

    def impute(self, data, draws):
        frame = data.frame()
        for attribute in data.schema.attributes:
            frame[attribute.name] = frame[attribute.name].fillna(attribute.levels[0] if attribute.levels else 0.0)
        return frame


class Crash(Method):
    """Crashes."""

    name = "crash"
    protocols = ("inductive", "transductive")

    def impute(self, data, draws):
        raise RuntimeError("this\\nhappens")


class Needs(Method):
    """Needs a package."""

    name = "needs"
    requires = ("package_that_is_not_there",)


class Away(Dataset):
    """Has a file that is not there."""

    name = "away"
    files = (File("away.csv", (Source("mirror", "away/away.csv", sha256="0" * 64),)),)

    def load(self, files):
        return pd.read_csv(files["away.csv"].path)


class Infinite(Dataset):
    """Has an infinite value."""

    name = "infinite"

    def load(self, files):
        return pd.DataFrame({"size": [1.0, float("inf")]})
'''


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with plug-ins of a user, with a mirror beside it that is empty."""
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror" / "away").mkdir(parents=True)
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "users.py").write_text(USERS, encoding="utf-8")
    return folder


def listing(names: Sequence[str], users: Path) -> tuple[bool, list[str]]:
    """Return whether all passed and what was written."""
    lines: list[str] = []
    return check_named(names, plugins=[users], write=lines.append), lines


def test_the_listing_says_what_failed_where(users: Path) -> None:
    passed, lines = listing(["flat"], users)
    assert passed
    assert lines[0] == "method flat" and lines[-1] == "1 ok"
    assert lines[1] == f"  ok      {name_of(METHOD_CHECKS[0])}"
    assert len(lines) == len(METHOD_CHECKS) + 3
    passed, lines = listing(["crash"], users)
    assert not passed
    raised = next(n for n, line in enumerate(USERS.splitlines(), start=1) if "raise RuntimeError" in line)
    tables = ", ".join(f"{t}, {p}" for p in ("inductive", "transductive") for t in ("numbers", "categories", MIXED))
    where = f"[{tables}]: RuntimeError: this happens (users.py:{raised})"
    assert lines[1] == f"  FAILED  {name_of(METHOD_CHECKS[0])} {where}"
    assert lines[2] == f"          To mend it: {remedy_of(METHOD_CHECKS[0])}"
    assert lines[-1] == "1 failed"


def test_what_cannot_be_run_is_skipped_with_the_reason(users: Path) -> None:
    passed, lines = listing(["needs", "away"], users)
    assert passed
    assert "  skipped: needs package_that_is_not_there: pip install package_that_is_not_there" in lines
    assert any(line.startswith("  skipped: data set 'away' is not available; tried mirror") for line in lines)
    assert lines[-1] == "2 skipped"


def test_data_that_is_there_but_wrong_is_no_reason_to_skip(users: Path) -> None:
    (users.parent / "mirror" / "away" / "away.csv").write_text("a\n1\n2\n", encoding="utf-8")
    passed, lines = listing(["away"], users)
    assert not passed
    assert lines[1].startswith("  FAILED  It loads: data set 'away' is not available; tried mirror")
    assert "wrong checksum" in lines[1]


def test_infinite_data_fails_with_the_column(users: Path) -> None:
    passed, lines = listing(["infinite"], users)
    assert not passed
    assert lines[1] == "  FAILED  It loads: column 'size' holds an infinite value; replace it or leave it missing"


def test_a_plugin_that_does_not_load_fails(users: Path) -> None:
    source = "from bench.api import Method\nclass Worse(Method):\n    name = 'worse'\n    1 / 0\n"
    (users / "worse.py").write_text(source, encoding="utf-8")
    passed, lines = listing(["worse"], users)
    assert not passed
    assert lines[1].startswith("  FAILED  It loads: ") and "worse.py:4: ZeroDivisionError" in lines[1]


def test_names_are_looked_up_and_none_means_the_users_own(users: Path) -> None:
    with pytest.raises(BenchError, match=r"unknown plug-in 'falt'. Did you mean 'flat'\?"):
        check_named(["falt"], plugins=[users])
    with pytest.raises(BenchError, match="name the plug-ins to check, or give --all"):
        check_named([])
    lines = listing([], users)[1]
    titles = [line for line in lines if line.split(" ")[0] in ("method", "data", "mechanism")]
    assert titles == ["method crash", "method flat", "method needs", "data set away", "data set infinite"]
    assert lines[-1] == "1 ok, 2 failed, 2 skipped"


def test_everything_means_all_that_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def note(info: PluginInfo, large: bool, write: Callable[[str], None]) -> str:
        seen.append(info.name)
        return "ok"

    monkeypatch.setattr(suite, "check_plugin", note)
    assert check_named([], everything=True, write=lambda line: None)
    assert seen == [info.name for info in Registry.scan().plugins]


@pytest.mark.parametrize(("names", "code"), [(["flat"], 0), (["flat", "crash"], 1), (["falt"], 2), ([], 1)])
def test_the_exit_code(
    users: Path, names: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["vsae-bench", "check", *names, "--plugins", str(users)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == code
    captured = capsys.readouterr()
    assert ("Traceback" in captured.out + captured.err) is False
