"""The directions of imports: import-linter holds them in ``bench``, and these tests in the folders of plug-ins.

The plug-in folders are no packages, so that import-linter cannot read them.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.paths import plugin_folder

ROOT = Path(__file__).resolve().parent.parent
#: What computes and reports, and how networks are trained: no author of a plug-in needs to know it.
CLOSED_TO_PLUGINS = (
    "bench.experiment",
    "bench.neural.engine",
    "bench.run",
    "bench.report",
    "bench.conformance",
    "bench.cli",
)
PLUGIN_FILES = sorted(path for folder in ("baselines", "datasets") for path in plugin_folder(folder).glob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, at its top or inside functions: modules and names in them, in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path.name}: a file loaded by its path has no relative imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lies_in(module: str, package: str) -> bool:
    """Return whether a module is a package or lies inside it."""
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_plugin_imports_of_the_suite_only_what_is_meant_for_authors(path: Path) -> None:
    modules = list(imported(path))
    for closed in (*CLOSED_TO_PLUGINS, "baselines", "datasets", "tests", "benchmarks"):
        assert not [module for module in modules if lies_in(module, closed)], closed
    assert any(lies_in(module, "bench") for module in modules)


def test_nothing_in_the_package_imports_a_plugin_a_test_or_a_benchmark() -> None:
    outside = ("baselines", "datasets", "tests", "benchmarks")
    for path in (ROOT / "bench").rglob("*.py"):
        assert not [module for module in imported(path) if module.partition(".")[0] in outside], path


def test_no_module_of_the_package_imports_itself_by_way_of_others() -> None:
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "bench").rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = {each if each in modules else each.rpartition(".")[0] for each in imported(path)}
        graph[name] = found & set(modules) - {name}
    TopologicalSorter(graph).prepare()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the package beside the contracts."""
    if find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("needs the checkout: these tests run from an installed copy")
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, str]:
    """Return the exit code and the words of ``lint-imports`` in a folder."""
    script = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command(sys.argv[1:])"
    command = [sys.executable, "-c", script, "--no-cache", "--no-logo"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_every_contract_is_kept(checkout: Path) -> None:
    code, words = lint(checkout)
    assert code == 0, words
    assert "0 broken" in words


@pytest.mark.parametrize(
    ("module", "backward", "contract"),
    [
        ("data/table.py", "bench.run.store", "A folder is a step of the flow"),
        ("plugins/contracts.py", "bench.files", "A folder is a step of the flow"),
        ("problem/metrics.py", "bench.files", "A folder is a step of the flow"),
        ("report/latex.py", "bench.plugins.registry", "Pages are made from stored results alone"),
        ("run/store.py", "bench.neural.layers", "Only neural methods know"),
        ("data/schema.py", "bench.data.table", "No circle between modules"),
    ],
)
def test_a_backward_import_is_refused(checkout: Path, module: str, backward: str, contract: str) -> None:
    path = checkout / "bench" / module
    path.write_text(f"{path.read_text()}\n\ndef late() -> None:\n    import {backward}\n")
    code, words = lint(checkout)
    assert code == 1
    assert any(line.startswith(contract) and " BROKEN" in line for line in words.splitlines()), words


def test_a_folder_that_no_contract_names_is_refused(checkout: Path) -> None:
    (checkout / "bench" / "elsewhere").mkdir()
    (checkout / "bench" / "elsewhere" / "__init__.py").touch()
    code, words = lint(checkout)
    assert code == 1 and "elsewhere" in words
