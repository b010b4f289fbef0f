"""Reads plug-ins from their source files with ``ast``, running nothing.

A plug-in is a class at the top level of a file, with a literal ``name = "..."`` in its own body, that derives from
``Method``, ``StackedMethod``, ``Dataset`` or ``Mechanism`` of ``bench.api``. The derivation is followed through classes
of the same file and classes imported from ``bench``; any other base counts by the end of its name
(``PatientStackedMethod`` as a stacked method). The attributes in ``PluginInfo`` are literals, of the class or of a base
that was followed; parameter sets are differences, which join along these.

This module must not import NumPy, so never ``bench.api``: its defaults, too, are read from the source.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from bench.data.kinds import KINDS, PROTOCOLS, Kind
from bench.paths import PACKAGE
from bench.plugins.code import code_hash
from bench.plugins.contracts import joined_sets
from bench.seeds import canonical_json

Category = Literal["method", "dataset", "mechanism"]
Origin = Literal["suite", "user", "entry point"]

_CONTRACTS_FILE = PACKAGE / "plugins" / "contracts.py"

#: Contract class in ``bench.api`` -> category, the longer suffix before the one it ends with.
_CATEGORIES: dict[str, Category] = {
    "StackedMethod": "method",
    "Method": "method",
    "Dataset": "dataset",
    "Mechanism": "mechanism",
}


@dataclass(frozen=True)
class PluginInfo:
    """What the source of a plug-in says of it, without running it; ``error`` says why it cannot be used, if so."""

    category: Category
    name: str
    class_name: str
    path: Path
    origin: Origin
    #: SHA-256 of the file, empty if it could not be read.
    source_hash: str
    summary: str = ""
    version: int = 1
    kinds: tuple[Kind, ...] = ()
    protocols: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    extra: str = ""
    max_attributes: int | None = None
    max_width: int | None = 25_000
    parameter_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tunable: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    #: The data set that a synthetic one may take the place of.
    stands_in_for: str | None = None
    licence: str = ""
    #: Whether it trains several problems as one stack.
    stackable: bool = False
    error: str | None = None

    @property
    def uses_torch(self) -> bool:
        """Whether the method needs torch: then it has a device to choose, and a precision."""
        return "torch" in self.requires

    @property
    def code_hash(self) -> str:
        """The hash of the code of a plug-in that is not the suite's own; empty for those, which go by ``version``."""
        return "" if self.origin == "suite" else _code_hash(self.path, self.source_hash)

    def as_json(self) -> dict[str, Any]:
        """Return the entry as plain JSON values, for another process."""
        return {**asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PluginInfo:
        """Read an entry back from JSON, where tuples have become lists; the file itself is not looked at."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
        return cls(**{**plain, "path": Path(value["path"])})


@dataclass(frozen=True)
class _Source:
    """The top level of one source file: its classes, and where each imported name comes from."""

    path: Path
    classes: Mapping[str, ast.ClassDef]
    imports: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class _Ancestor:
    """A class in the derivation of another, with the file it stands in; ``guessed`` if only its name says which."""

    source: _Source
    node: ast.ClassDef
    guessed: bool = False


class _NotLiteral(Exception):
    """An attribute cannot be read from the source or has no sensible value; the message says which and where."""


class SourceReader:
    """Reads plug-ins from source files; keeps the files of ``bench`` it had to follow, each parsed once."""

    def __init__(self) -> None:
        self._bench: dict[str, _Source | None] = {}
        self._seen: set[Path] = set()

    def read_files(self, paths: Iterable[Path], origin: Origin, usual: Category | None) -> list[PluginInfo]:
        """Return the plug-ins of files not read before; ``usual`` is the category of a file that cannot be read."""
        found: list[PluginInfo] = []
        for path in paths:
            resolved = path.resolve()
            if resolved not in self._seen:
                self._seen.add(resolved)
                found += self._read_file(resolved, origin, usual)
        return found

    def _read_file(self, path: Path, origin: Origin, usual: Category | None) -> list[PluginInfo]:
        """Return the plug-ins of one file, or one entry with the error if it cannot be read."""
        content = b""
        try:
            content = path.read_bytes()
            source = _parse(content, path)
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, SyntaxError):
                message = f"{path}:{error.lineno or 1}: SyntaxError: {error.msg}"
            else:
                message = f"{path}: cannot be read: {error}"
            category = usual or _guess_category(content)
            source_hash = hashlib.sha256(content).hexdigest() if content else ""
            return [PluginInfo(category, path.stem, "", path, origin, source_hash, error=message)]
        source_hash = hashlib.sha256(content).hexdigest()
        bases = {base for node in source.classes.values() for base in _base_names(node)}
        found: list[PluginInfo] = []
        for node in source.classes.values():
            ancestry = list(self._ancestry(source, node))
            contract = next(
                (a for a in ancestry if a.source.path == _CONTRACTS_FILE and a.node.name in _CATEGORIES), None
            )
            if contract is None:
                continue
            helper = node.name.startswith("_") or node.name in bases or contract.guessed
            if helper and "name" not in _assigned(node):
                continue
            category = _CATEGORIES[contract.node.name]
            stackable = contract.node.name == "StackedMethod"
            info = PluginInfo(category, node.name, node.name, path, origin, source_hash, stackable=stackable)
            found.append(_with_attributes(info, ancestry))
        return found

    def _ancestry(self, source: _Source, node: ast.ClassDef) -> Iterator[_Ancestor]:
        """Yield the class and what it derives from, nearest first, with the contract in ``bench.api``."""
        pending = [_Ancestor(source, node)]
        seen: set[tuple[Path, str]] = set()
        while pending:
            current = pending.pop(0)
            if (current.source.path, current.node.name) in seen:
                continue
            seen.add((current.source.path, current.node.name))
            yield current
            bases = (self._resolve(current.source, base) for base in _base_names(current.node))
            pending[:0] = [base for base in bases if base is not None]

    def _resolve(self, source: _Source, name: str) -> _Ancestor | None:
        """Return the class a base's name means: of this file, of ``bench``, or the contract its last word names."""
        if name in source.classes:
            return _Ancestor(source, source.classes[name])
        seen: set[tuple[str, str]] = set()
        where = source.imports.get(name)
        while where is not None and where not in seen and where[0].partition(".")[0] == "bench":
            seen.add(where)
            module = self._bench_source(where[0])
            if module is None:
                break
            if where[1] in module.classes:
                return _Ancestor(module, module.classes[where[1]])
            where = module.imports.get(where[1])
        api = self._bench_source("bench.plugins.contracts")
        contract = next((contract for contract in _CATEGORIES if name.endswith(contract)), None)
        if api is None or contract is None:
            return None
        return _Ancestor(api, api.classes[contract], guessed=True)

    def _bench_source(self, module: str) -> _Source | None:
        """Return a module of ``bench``, parsed once, or None if there is none or it does not parse."""
        if module not in self._bench:
            base = PACKAGE.parent.joinpath(*module.split("."))
            path = base / "__init__.py" if base.is_dir() else base.with_name(f"{base.name}.py")
            try:
                self._bench[module] = _parse(path.read_bytes(), path)
            except (OSError, SyntaxError, ValueError):
                # Loading the plug-in will say what is wrong there; listing goes by the name of its base.
                self._bench[module] = None
        return self._bench[module]


@lru_cache
def _code_hash(path: Path, source_hash: str) -> str:
    """Return the hash of a file's code as it was listed, empty if the file is gone or another by now."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    return code_hash(content) if hashlib.sha256(content).hexdigest() == source_hash else ""


def _parse(content: bytes, path: Path) -> _Source:
    """Return the classes and imports at the top level of a source; raises SyntaxError or ValueError."""
    classes: dict[str, ast.ClassDef] = {}
    imports: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(content, str(path)).body:
        if isinstance(statement, ast.ClassDef):
            classes[statement.name] = statement
        elif isinstance(statement, ast.ImportFrom) and statement.module and statement.level == 0:
            for alias in statement.names:
                imports[alias.asname or alias.name] = (statement.module, alias.name)
    return _Source(path, classes, imports)


def _base_names(node: ast.ClassDef) -> list[str]:
    """Return the names of a class's bases as they are written, dotted ones too, without type arguments."""
    bases = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    return [ast.unparse(base) for base in bases if isinstance(base, ast.Name | ast.Attribute)]


def _guess_category(content: bytes) -> Category:
    """Return the category of a file that does not parse, by the first contract it names."""
    found = re.search(rb"class\s+\w+\([^)]*?(Method|Dataset|Mechanism)\b", content)
    return _CATEGORIES[found.group(1).decode()] if found else "method"


def _assigned(node: ast.ClassDef) -> dict[str, ast.expr]:
    values: dict[str, ast.expr] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            values |= {target.id: statement.value for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            values[statement.target.id] = statement.value
    return values


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_named(value: Any) -> bool:
    """Return whether a value is a name, and one that a file or folder can have."""
    plain = isinstance(value, str) and value.isprintable() and re.fullmatch(r"[^\s,/\\.=+@-][^\s,/\\]*", value)
    return bool(plain) and len(quote(value, safe="")) <= 200


def _are_from(known: Sequence[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and bool(value) and all(item in known for item in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_parameters(value: Any) -> bool:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return False
    try:
        canonical_json(value)
    except (TypeError, ValueError):
        return False
    return True


def _are_parameter_sets(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) and _are_parameters(value[name]) for name in value)


def _is_range(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) < 3:
        return False
    how, *bounds = value
    if how == "choice":
        return _are_parameters({"choice": bounds})
    numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds)
    if not numbers or len(bounds) != 2 or bounds[0] >= bounds[1]:
        return False
    return how == "uniform" or bool(how == "log" and bounds[0] > 0)


def _are_ranges(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and _is_range(item) for key, item in value.items())


#: Attribute -> what it must be: a test, and the words for it.
_Rules = dict[str, tuple[Callable[[Any], bool], str]]

_COMMON: _Rules = {
    "summary": (_is_text, "text"),
    "version": (_is_version, "a whole number from 1"),
    "kinds": (_are_from(KINDS), f"a tuple of some of {', '.join(KINDS)}"),
}
_ATTRIBUTES: dict[Category, _Rules] = {
    "method": _COMMON
    | {
        "protocols": (_are_from(PROTOCOLS), f"a tuple of some of {', '.join(PROTOCOLS)}"),
        "requires": (_are_texts, "a tuple of names of importable packages"),
        "extra": (_is_text, "text"),
        "max_attributes": (lambda value: value is None or _is_version(value), "a whole number from 1, or None"),
        "max_width": (lambda value: value is None or _is_version(value), "a whole number from 1, or None"),
        "parameter_sets": (_are_parameter_sets, "a dict of named dicts of JSON values"),
        "tunable": (
            _are_ranges,
            'a dict of ("log", low, high), ("uniform", low, high) or ("choice", value, value, ...)',
        ),
    },
    "dataset": {name: rule for name, rule in _COMMON.items() if name != "version"}
    | {
        "target": (lambda value: value is None or isinstance(value, str), "the name of a column, or None"),
        "licence": (_is_text, "text"),
        "stands_in_for": (lambda value: value is None or _is_named(value), "the name of a data set, or None"),
    },
    "mechanism": _COMMON | {"parameters": (_are_parameters, "a dict of JSON values")},
}


def attributes_of(category: Category) -> tuple[str, ...]:
    """Return the attributes read from the source of a plug-in of a category, apart from its name."""
    return tuple(_ATTRIBUTES[category])


def _with_attributes(info: PluginInfo, ancestry: Sequence[_Ancestor]) -> PluginInfo:
    """Return the entry with the literal attributes of a class; the first that cannot be read becomes its error."""
    values: dict[str, Any] = {}
    errors: list[str] = []
    own = ancestry[0]
    try:
        if "name" not in _assigned(own.node):
            raise _NotLiteral(f'{info.path}:{own.node.lineno}: class {own.node.name} needs a literal name = "..."')
        values["name"] = _literal(
            [own], "name", _is_named, "text without blanks, commas and slashes, short and after no sign"
        )
    except _NotLiteral as error:
        errors.append(str(error))
    for attribute, (valid, words) in _ATTRIBUTES[info.category].items():
        try:
            if attribute == "parameter_sets":
                values[attribute] = joined_sets(list(_literals(ancestry, attribute, valid, words)))
            else:
                values[attribute] = _literal(ancestry, attribute, valid, words)
        except _NotLiteral as error:
            errors.append(str(error))
    unknown = sorted(set(values.get("tunable", ())) - set(values.get("parameter_sets", {}).get("default", ())))
    if unknown:
        names = ", ".join(unknown)
        errors.append(f"{info.path}: tunable of {own.node.name} names {names}, which 'default' does not have")
    if not values.get("summary"):
        values["summary"] = (ast.get_docstring(own.node) or "").partition("\n")[0]
    return replace(info, **values, error=errors[0] if errors else None)


def _literal(ancestry: Sequence[_Ancestor], attribute: str, valid: Callable[[Any], bool], words: str) -> Any:
    """Return the value the nearest class gives to an attribute, a list as a tuple. Raises _NotLiteral."""
    for value in _literals(ancestry, attribute, valid, words):
        return value
    raise _NotLiteral(f"{ancestry[0].source.path}: {ancestry[0].node.name} has no {attribute}")


def _literals(ancestry: Sequence[_Ancestor], attribute: str, valid: Callable[[Any], bool], words: str) -> Iterator[Any]:
    """Yield the values that classes give to an attribute, nearest first, a list as a tuple. Raises _NotLiteral."""
    for ancestor in ancestry:
        expression = _assigned(ancestor.node).get(attribute)
        if expression is None:
            continue
        try:
            value = ast.literal_eval(expression)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise _NotLiteral(
                f"{ancestor.source.path}:{expression.lineno}: {attribute} of {ancestor.node.name} must be a literal,"
                " because plug-ins are listed without running them; write the value out"
            ) from None
        value = tuple(value) if isinstance(value, list) else value
        if not valid(value):
            raise _NotLiteral(
                f"{ancestor.source.path}:{expression.lineno}: {attribute} of {ancestor.node.name} must be {words}"
            )
        yield value
