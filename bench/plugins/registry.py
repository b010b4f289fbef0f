"""Finds the plug-ins and loads one when it is needed.

**Where they are.** The suite's folders ``baselines`` and ``datasets``, the file ``bench/problem/mechanisms.py``, the
user's folders, and the entry points of installed distributions in the group ``vsae_bench.plugins``, whose value is a
module (or a package, of which every module counts). All are treated alike; files whose name starts with ``_`` are left
out.

**Listing** runs nothing: ``bench.plugins.reader`` reads the files and says what counts as a plug-in. A file that cannot
be read stays listed with its error. This module must not import NumPy, so never ``bench.api`` at its top.

**Loading** executes the one file, under a module name made of a hash of its path and source. A plug-in is one file: the
folder it lies in is not importable, so it cannot import the files beside it, nor use relative imports. An instance of
its class cannot be pickled into another process: send ``PluginInfo.as_json()``, and load it there.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import BenchError, closest, message_of, printable
from bench.paths import PACKAGE, plugin_folder
from bench.plugins.reader import PluginInfo, SourceReader, attributes_of

__all__ = ["PluginInfo", "Registry", "available", "load"]

ENTRY_POINT_GROUP = "vsae_bench.plugins"
DISTRIBUTION = "vsae-bench"


@dataclass(frozen=True)
class Registry:
    """The plug-ins by name; those ``unlisted`` are mechanisms that make sense with parameters alone."""

    methods: Mapping[str, PluginInfo]
    datasets: Mapping[str, PluginInfo]
    mechanisms: Mapping[str, PluginInfo]
    unlisted: Mapping[str, PluginInfo] = field(default_factory=dict)

    @classmethod
    def scan(cls, plugin_folders: Sequence[str | Path] = ()) -> Registry:
        """Read the suite's plug-ins, the installed entry points and the user's folders.

        Raises BenchError for a user's folder that is not there or holds no plug-in.
        """
        folders = tuple(dict.fromkeys(Path(folder).expanduser().resolve() for folder in plugin_folders))
        reader = SourceReader()
        with _no_garbage_collection():
            found = reader.read_files(_python_files(plugin_folder("baselines")), "suite", "method")
            found += reader.read_files(_python_files(plugin_folder("datasets")), "suite", "dataset")
            found += reader.read_files([PACKAGE / "problem" / "mechanisms.py"], "suite", "mechanism")
            found += _read_entry_points(reader)
            for folder in folders:
                if not folder.is_dir():
                    raise BenchError(f"the plug-in folder {folder} does not exist; --plugins takes a folder")
                mine = reader.read_files(_python_files(folder), "user", None)
                if not mine and not any(info.path.parent == folder for info in found):
                    raise BenchError(
                        f"no plug-in in {folder}: it needs a .py file with a class that derives from a class of"
                        ' bench.api, such as Method, and has a literal name = "..."'
                    )
                found += mine
        by_category = {
            category: _by_name(info for info in found if info.category == category)
            for category in ("method", "dataset", "mechanism")
        }
        unlisted = _by_name(reader.read_files([PACKAGE / "experiment" / "mask_file.py"], "suite", "mechanism"))
        return cls(by_category["method"], by_category["dataset"], by_category["mechanism"], unlisted)

    def method(self, name: str) -> PluginInfo:
        """Return a method, which may carry an ``error``. Raises BenchError with the closest name if not there."""
        return _lookup(self.methods, "method", name)

    def dataset(self, name: str) -> PluginInfo:
        """Return a data set, which may carry an ``error``. Raises BenchError with the closest name if not there."""
        return _lookup(self.datasets, "data set", name)

    def mechanism(self, name: str) -> PluginInfo:
        """Return a mechanism, which may carry an ``error``. Raises BenchError with the closest name if not there."""
        return self.unlisted[name] if name in self.unlisted else _lookup(self.mechanisms, "mechanism", name)

    @property
    def code(self) -> dict[tuple[str, str], str]:
        """The hash of the code of each method and mechanism that is not the suite's own, by category and name."""
        behind_numbers = (*self.methods.values(), *self.mechanisms.values())
        return {(info.category, info.name): info.code_hash for info in behind_numbers if info.code_hash}

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """All plug-ins: methods, data sets, mechanisms, each in order of name."""
        return (*self.methods.values(), *self.datasets.values(), *self.mechanisms.values())


def available(info: PluginInfo) -> tuple[bool, str]:
    """Return whether the packages a plug-in needs are installed, and if not the reason with the command to run."""
    if info.error:
        return False, info.error
    missing = [package for package in info.requires if not _is_installed(package)]
    if not missing:
        return True, ""
    what = f"'{DISTRIBUTION}[{info.extra}]'" if info.extra else " ".join(missing)
    return False, f"needs {', '.join(missing)}: pip install {what}"


def load(info: PluginInfo) -> type[Any]:
    """Execute the plug-in's file and return its class.

    Raises BenchError, with file and line, if the file fails, has changed since listing, or is not what was listed.
    """
    if info.error:
        raise BenchError(info.error)
    from bench.plugins import contracts

    loaded = getattr(_execute(info), info.class_name, None)
    contract: type[Any] = getattr(contracts, info.category.capitalize())
    if not (isinstance(loaded, type) and issubclass(loaded, contract)):
        raise BenchError(f"{info.path}: {info.class_name} does not derive from bench.api.{contract.__name__}")
    if info.stackable != issubclass(loaded, contracts.StackedMethod):
        raise BenchError(f"{info.path}: name StackedMethod itself among the bases of {info.class_name}")
    for attribute in attributes_of(info.category):
        value = getattr(loaded, attribute)
        if attribute != "summary" and _with_tuples(value) != _with_tuples(getattr(info, attribute)):
            raise BenchError(
                f"{info.path}: {attribute} of {info.class_name} is {value!r} when loaded but"
                f" {getattr(info, attribute)!r} in the source; write it out in the class itself"
            )
    return loaded


def _with_tuples(value: Any) -> Any:
    """Return a literal with its lists as tuples, which an entry that came as JSON cannot tell apart."""
    if isinstance(value, Mapping):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def _execute(info: PluginInfo) -> ModuleType:
    """Return the module of a plug-in, executed once per path and source."""
    source = info.path.read_bytes()
    if hashlib.sha256(source).hexdigest() != info.source_hash:
        raise BenchError(f"{info.path} has changed since it was listed; start the run again")
    identity = hashlib.sha256(f"{info.path}\n{info.source_hash}".encode()).hexdigest()[:16]
    module_name = f"vsae_bench_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', info.path.stem)}_{identity}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    specification = importlib.util.spec_from_file_location(module_name, info.path)
    if specification is None:
        raise BenchError(f"{info.path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up while the file executes, so it must be known before.
    sys.modules[module_name] = module
    try:
        exec(compile(source, str(info.path), "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        del sys.modules[module_name]
        if isinstance(error, Exception | SystemExit):
            raise BenchError(_describe(error, info)) from error
        raise
    return module


def _describe(error: BaseException, info: PluginInfo) -> str:
    """Return one line on what failed while a plug-in's file executed: file, line, error and what to do where known."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(info.path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = str(error.msg) if isinstance(error, SyntaxError) else message_of(error)
    message = printable(text.strip().partition("\n")[0])
    advice = ""
    usable, reason = available(info)
    if not usable:
        advice = f" ({reason})"
    elif isinstance(error, ImportError) and error.name and (info.path.parent / f"{error.name}.py").is_file():
        advice = " (a plug-in is one file and cannot import the files beside it)"
    return f"{info.path}:{line or 1}: {type(error).__name__}: {message}{advice}"


def _is_installed(package: str) -> bool:
    """Return whether an importable package is there, without importing it."""
    top = package.partition(".")[0]
    if top in sys.modules:
        return sys.modules[top] is not None
    return importlib.util.find_spec(top) is not None


def _lookup(plugins: Mapping[str, PluginInfo], noun: str, name: str) -> PluginInfo:
    """Return the plug-in of a name or raise BenchError with the closest one."""
    if name not in plugins:
        raise BenchError(f"unknown {noun} '{name}'.{closest(name, plugins)}")
    return plugins[name]


def _by_name(found: Iterable[PluginInfo]) -> dict[str, PluginInfo]:
    """Return plug-ins by name in order; a name taken twice becomes one entry whose error names the places.

    A file that could not be read has only its own name to go by, which it yields to a plug-in that really has it.
    """
    named: dict[str, list[PluginInfo]] = {}
    unnamed: list[PluginInfo] = []
    for info in found:
        if info.class_name:
            named.setdefault(info.name, []).append(info)
        else:
            unnamed.append(info)
    result: dict[str, PluginInfo] = {}
    for name, infos in named.items():
        result[name] = infos[0]
        if len(infos) > 1:
            places = " and in ".join(str(info.path) for info in infos)
            error = f"the name '{name}' is taken more than once, in {places}; rename one"
            result[name] = replace(infos[0], error=error)
    for info in unnamed:
        name = str(info.path) if info.name in result else info.name
        result[name] = replace(info, name=name)
    return dict(sorted(result.items()))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector: a syntax tree is many small objects without cycles; reading takes half as long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _python_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold plug-ins, in order."""
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _read_entry_points(reader: SourceReader) -> list[PluginInfo]:
    """Read the plug-ins that installed distributions declare; one that cannot be found is listed with its error."""
    from importlib.metadata import entry_points

    found: list[PluginInfo] = []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        files = _files_of_module(entry.value.partition(":")[0].strip())
        if files:
            found += reader.read_files(files, "entry point", None)
        else:
            error = f"entry point '{entry.name}' names the module '{entry.value}', which is not installed"
            found.append(PluginInfo("method", entry.name, "", Path(entry.value), "entry point", "", error=error))
    return found


def _files_of_module(module: str) -> list[Path]:
    """Return the file of a module, or the files of a package, without importing either; empty if there is none."""
    top, *rest = module.split(".")
    specification = importlib.util.find_spec(top)
    if specification is None:
        return []
    if not rest and specification.origin and not specification.submodule_search_locations:
        return [Path(specification.origin).resolve()]
    for location in specification.submodule_search_locations or ():
        target = Path(location, *rest).resolve()
        if target.is_dir():
            return _python_files(target)
        if target.with_name(f"{target.name}.py").is_file():
            return [target.with_name(f"{target.name}.py")]
    return []
