"""The wheel and the editable install: what they hold, what they expose, and that both find the plug-ins."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.paths import PACKAGE

ROOT = Path(__file__).resolve().parent.parent

#: Imports bench from the folder given, as if it were site-packages, with none of the real one; prints what it finds.
PROBE = """
import json, site, sys
site.addsitedir(sys.argv[1])
import bench, bench.paths, bench.plugins.registry
registry = bench.plugins.registry.Registry.scan()
try:
    import datasets
    found = str(list(datasets.__path__)[0])
except ModuleNotFoundError:
    found = None
folders = [bench.paths.tables_folder(), bench.paths.published_folder(), bench.paths.plugin_folder("datasets")]
print(json.dumps({
    "bench": bench.__file__,
    "plugins": sorted((info.category, info.name, str(info.path)) for info in registry.plugins),
    "folders": [str(folder) for folder in folders],
    "datasets": found,
}))
"""


def probe(site_packages: Path, cwd: Path) -> dict[str, Any]:
    """Return what a bare interpreter finds with this folder as its only site-packages."""
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(site_packages)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def build(version: str, folder: Path) -> zipfile.ZipFile:
    """Build a wheel of the checkout with the build backend itself and open it."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="the build backend is not installed")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("needs the checkout: these tests run from an installed copy")
    (path,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=[version])
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build("standard", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if find_spec("editables") is None:
        pytest.skip("an editable install needs the package 'editables'")
    return build("editable", tmp_path_factory.mktemp("editable"))


def suite_plugins() -> list[list[str]]:
    """Return category and name of the plug-ins whose files this checkout has."""
    from bench.plugins.registry import Registry

    return sorted([info.category, info.name] for info in Registry.scan().plugins if info.origin == "suite")


def stranger(site_packages: Path) -> None:
    """Put another distribution's package ``datasets`` into site-packages, with a class that looks like a plug-in."""
    package = site_packages / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "arrow.py").write_text("class ArrowDataset(Dataset):\n    name = 'arrow'\n")


def test_the_wheel_holds_bench_and_nothing_else_at_its_top(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"bench", f"vsae_bench-{bench.__version__}.dist-info"}


def test_the_wheel_holds_every_plugin_spec_and_published_number(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in ("baselines", "datasets", "results/tables", "results/published"):
        files = [path for path in (ROOT / folder).iterdir() if path.is_file()]
        assert files, folder
        assert {f"bench/{folder}/{path.name}" for path in files} <= names
    assert {"bench/py.typed", "bench/plugins/registry.py"} <= names
    assert not [name for name in names if name.endswith((".pyc", "baselines/__init__.py", "datasets/__init__.py"))]


def test_the_wheel_has_the_command_the_extra_and_the_licence(wheel: zipfile.ZipFile) -> None:
    folder = f"vsae_bench-{bench.__version__}.dist-info"
    assert "vsae-bench = bench.cli.app:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert "Requires-Python: <3.14,>=3.11" in metadata
    assert "Requires-Dist: missingpy==0.2.0; extra == 'paper'" in metadata
    assert "MIT License" in wheel.read(f"{folder}/licenses/LICENSE").decode()


def test_an_installed_wheel_finds_its_own_plugins_beside_a_strangers_datasets(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    site_packages = tmp_path / "site"
    wheel.extractall(site_packages)
    alone = probe(site_packages, tmp_path)
    assert alone["datasets"] is None
    stranger(site_packages)
    answer = probe(site_packages, tmp_path)
    assert answer["datasets"] == str(site_packages / "datasets")
    assert answer["plugins"] == alone["plugins"]
    assert [plugin[:2] for plugin in answer["plugins"]] == suite_plugins()
    assert all(Path(plugin[2]).is_relative_to(site_packages / "bench") for plugin in answer["plugins"])
    assert all(Path(folder).is_relative_to(site_packages / "bench") for folder in answer["folders"])
    assert all(Path(folder).is_dir() for folder in answer["folders"])


def test_an_editable_install_exposes_bench_alone(editable: zipfile.ZipFile, tmp_path: Path) -> None:
    site_packages = tmp_path / "site"
    editable.extractall(site_packages)
    editables = find_spec("editables")
    assert editables is not None and editables.origin is not None
    shutil.copytree(Path(editables.origin).parent, site_packages / "editables")
    answer = probe(site_packages, tmp_path)
    assert answer["bench"] == str(PACKAGE / "__init__.py") == str(ROOT / "bench" / "__init__.py")
    assert answer["datasets"] is None
    assert [plugin[:2] for plugin in answer["plugins"]] == suite_plugins()
    assert answer["folders"] == [str(ROOT / name) for name in ("results/tables", "results/published", "datasets")]
    stranger(site_packages)
    assert probe(site_packages, tmp_path)["datasets"] == str(site_packages / "datasets")


def test_in_the_checkout_the_installed_package_datasets_wins(tmp_path: Path) -> None:
    stranger(tmp_path)
    script = f"import sys; sys.path.append({str(tmp_path)!r}); import datasets; print(datasets.__file__)"
    command = [sys.executable, "-S", "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(tmp_path / "datasets" / "__init__.py")


def test_the_constraints_are_exact_and_meet_the_declared_ranges() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    exact = [requirements.Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all([specifier.operator for specifier in pin.specifier] == ["=="] for pin in exact)
    version = {pin.name: next(iter(pin.specifier)).version for pin in exact}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
        requirement = requirements.Requirement(line)
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(version[requirement.name]), line


def test_citation_and_changelog_name_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {bench.__version__}\n" in citation
    (date,) = re.findall(r'^date-released: "(.+)"$', citation, flags=re.MULTILINE)
    assert f"\n## {bench.__version__} ({date})\n" in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_that_the_prose_links_to_is_there() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
