"""Which results belong to which cells of a table.

Within a table, the results of one data set share one content of the data, and those of one condition (data set,
mechanism, ratio) one version of engine, mechanism and budget.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

from bench.errors import BenchError
from bench.experiment.cell import Cell
from bench.experiment.result import Result
from bench.experiment.specs import TableCell, TableSpec
from bench.experiment.tuned import TUNED
from bench.seeds import canonical_json


def belongs(
    cell: Cell, spec: TableSpec, parameter_set: str, precision: str, known_methods: Mapping[str, Collection[str]]
) -> bool:
    """Return whether a result can be in a table at all, whatever its place in it."""
    parameterless = not cell.parameters and not cell.overrides
    shown_set = parameter_set if parameter_set in known_methods.get(cell.method, {parameter_set}) else "default"
    same_set = cell.parameter_set == shown_set or parameterless
    return same_set and cell.repeat == spec.repeat and cell.precision == precision and cell.seed in spec.seeds


def matched(spec: TableSpec, cells: Sequence[TableCell], results: Iterable[Result]) -> list[list[Result]]:
    """Return the results behind each cell, from those of one preset.

    Raises BenchError if they differ in mechanism parameters that the spec does not name.
    """
    index: dict[Hashable, list[Result]] = defaultdict(list)
    for result in results:
        index[_key(result.cell, result.cell.overrides)].append(result)
    found = [
        [result for result in index.get(_key(cell, cell.parameters), ()) if _same_mechanism(result.cell, cell)]
        for cell in cells
    ]
    return _of_one_version(spec, cells, _of_one_content(cells, found))


def recipe(result: Result) -> tuple[int, str]:
    """Return what the seeds of a cell share: the method's version, newer ones larger, and its resolved parameters.

    Tuned parameters are each seed's own.
    """
    cell = result.cell
    return cell.method_version, TUNED if cell.parameter_set == TUNED else canonical_json(dict(cell.parameters))


def filled(results: Iterable[Result]) -> int:
    """Return the number of different cells that ran well."""
    return len({result.key for result in results if result.status == "ok"})


def _key(cell: Cell | TableCell, overrides: Mapping[str, object]) -> Hashable:
    """Return what a result's cell and a table's have to agree in."""
    own = canonical_json(dict(overrides))
    return cell.dataset, cell.include_target, cell.mechanism, cell.ratio, cell.method, cell.protocol, own


def _same_mechanism(cell: Cell, asked: TableCell) -> bool:
    """Return whether a result's mechanism parameters are those of a table's cell, which names only what it changes."""
    wanted = dict(asked.mechanism_parameters)
    if cell.mechanism_overrides is not None:
        return dict(cell.mechanism_overrides) == wanted
    resolved = cell.mechanism_parameters
    return all(name in resolved and resolved[name] == value for name, value in wanted.items())


def _data(cell: TableCell) -> Hashable:
    """Return what has one content throughout a table."""
    return cell.dataset, cell.include_target


def _condition(cell: TableCell) -> Hashable:
    """Return what has one version of engine, mechanism and budget throughout a table."""
    return _data(cell), cell.mechanism, canonical_json(dict(cell.mechanism_parameters)), cell.ratio


def _content(result: Result) -> tuple[str, str]:
    """Return the data of a result: its variant and content hash."""
    return result.variant, result.cell.content


def _version(result: Result) -> tuple[int, int, str]:
    """Return the versions that the results of a condition share, newer ones larger, and the budget."""
    return result.cell.engine, result.cell.mechanism_version, canonical_json(dict(result.cell.budget))


def _of_one_content(cells: Sequence[TableCell], found: list[list[Result]]) -> list[list[Result]]:
    """Keep, for each data set, one content: one that ran, the full data, then the one with most results."""
    pooled: dict[Hashable, dict[tuple[str, str], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for cell, results in zip(cells, found, strict=True):
        for result in results:
            pooled[_data(cell)][_content(result)].append(result)
    chosen = {
        data: max(contents, key=lambda c: (filled(contents[c]) > 0, c[0] == "full", filled(contents[c]), c))
        for data, contents in pooled.items()
    }
    return [
        [result for result in results if _content(result) == chosen[_data(cell)]]
        for cell, results in zip(cells, found, strict=True)
    ]


def _of_one_version(spec: TableSpec, cells: Sequence[TableCell], found: list[list[Result]]) -> list[list[Result]]:
    """Keep, for each condition, the newest engine and mechanism, then the budget with most results."""
    pooled: dict[Hashable, dict[tuple[int, int, str], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for cell, results in zip(cells, found, strict=True):
        for result in results:
            pooled[_condition(cell)][_version(result)].append(result)
    chosen = {}
    for condition, versions in pooled.items():
        best = max(versions, key=lambda v: (v[0], v[1], filled(versions[v]), v[2]))
        parameters = {canonical_json(dict(result.cell.mechanism_parameters)) for result in versions[best]}
        if len(parameters) > 1:
            own = versions[best][0].cell
            raise BenchError(
                f"table spec '{spec.id}': there are rows of '{own.dataset}' under '{own.mechanism}' with "
                f"different parameters ({' and '.join(sorted(parameters))}); say which in 'mechanism_parameters'"
            )
        chosen[condition] = best
    return [
        [result for result in results if _version(result) == chosen[_condition(cell)]]
        for cell, results in zip(cells, found, strict=True)
    ]
