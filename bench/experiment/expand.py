"""From a scope to table specs, from a spec to cells, and from cells to jobs with their plug-ins.

This is where plug-ins are looked up: nothing that works on a job needs the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import engine_version
from bench.errors import BenchError, closest
from bench.experiment.cell import STACKED_OVER, Cell, Job, Plugins
from bench.experiment.presets import HIGHEST, budget_for
from bench.experiment.reader import load_spec
from bench.experiment.scope import Scope
from bench.experiment.specs import ColumnSpec, Defaults, RowSpec, TableCell, TableSpec
from bench.experiment.tuned import TUNED, TunedParameters
from bench.plugins.registry import PluginInfo, Registry
from bench.seeds import canonical_json


def specs_of(scope: Scope, registry: Registry) -> list[TableSpec]:
    """Return the tables of a scope with the user's plug-ins in them, or its grid. Raises BenchError.

    The scope's seeds, if it names some, take the place of the tables' own.
    """
    specs = [with_user_plugins(load_spec(name), registry) for name in scope.tables] or [grid_spec(scope, registry)]
    specs = with_seeds_of(scope, specs)
    return with_stand_ins(specs, registry) if scope.stand_in else specs


def with_seeds_of(scope: Scope, specs: Sequence[TableSpec]) -> list[TableSpec]:
    """Return the specs with the seeds that a scope names, if it names some, in the place of their own."""
    seeds = tuple(dict.fromkeys(scope.seeds))
    return [spec.model_copy(update={"seeds": seeds}) for spec in specs] if seeds else list(specs)


def grid_spec(scope: Scope, registry: Registry) -> TableSpec:
    """Return a spec for named methods, data sets, mechanisms and ratios. Raises BenchError if one is missing."""
    if not (scope.methods and scope.datasets):
        raise BenchError("name tables to run, or give --methods and --datasets for a grid of your own")
    columns: list[ColumnSpec] = []
    for name in scope.datasets:
        for mechanism in scope.mechanisms or ("mcar",):
            registry.mechanism(mechanism)
            for ratio in scope.ratios or (0.5,):
                columns += columns_for(
                    registry.dataset(name),
                    mechanism=mechanism,
                    ratio=ratio,
                    mechanism_parameters=dict(scope.mechanism_parameters),
                )
    rows = [
        RowSpec(label=name, method=name, protocol=preferred_protocol(registry.method(name))) for name in scope.methods
    ]
    return TableSpec(
        id="grid",
        title="A grid of your own",
        label="tab:grid",
        seeds=scope.seeds or (0, 1, 2),
        defaults=Defaults(protocol="inductive"),
        rows=tuple(rows),
        columns=tuple(columns),
    )


def with_user_plugins(spec: TableSpec, registry: Registry) -> TableSpec:
    """Return the spec with the user's methods as further rows and the user's data sets as further columns."""
    named_rows = {row.method for row in spec.rows}
    named_columns = {column.dataset for column in spec.columns} | {section.dataset for section in spec.sections}
    methods = [info for info in registry.methods.values() if info.origin != "suite" and info.name not in named_rows]
    datasets = [
        info for info in registry.datasets.values() if info.origin != "suite" and info.name not in named_columns
    ]
    rows = tuple(
        RowSpec(label=info.name, method=info.name, reference=True, user=True, protocol=preferred_protocol(info))
        for info in methods
    )
    columns: list[ColumnSpec] = []
    if not any(section.dataset for section in spec.sections):
        for info in datasets:
            columns.extend(columns_for(info))
    return spec.model_copy(update={"rows": (*spec.rows, *rows), "columns": (*spec.columns, *columns)})


def with_stand_ins(specs: Sequence[TableSpec], registry: Registry) -> list[TableSpec]:
    """Return the specs with a synthetic stand-in in place of each of their data sets that has one.

    A table that this changes has another id, label and title: it is never taken for the table itself. Raises BenchError
    if it changes none.
    """
    known = stand_ins(registry)
    changed: list[TableSpec] = []
    for spec in specs:
        used = {cell.dataset: known[cell.dataset] for cell in spec.cells() if cell.dataset in known}
        update = {
            "id": f"{spec.id}_stand_in",
            "label": f"{spec.label}-stand-in",
            "stand_ins": used,
            "title": f"{spec.title} SYNTHETIC stand-in data.",
        }
        changed.append(spec.model_copy(update=update) if used else spec)
    if not any(spec.stand_ins for spec in changed):
        raise BenchError(f"--stand-in: no data set of {' and '.join(spec.id for spec in specs)} has a stand-in")
    return changed


def stand_ins(registry: Registry) -> dict[str, str]:
    """Return the data sets that have a synthetic stand-in, and its name."""
    return {info.stands_in_for: info.name for info in registry.datasets.values() if info.stands_in_for}


def stand_in_advice(name: str, registry: Registry) -> str:
    """Return how to run the stand-in of a data set that cannot be had, or nothing if it has none."""
    known = stand_ins(registry)
    return f". --stand-in runs {known[name]}, which is synthetic, in its place" if name in known else ""


def preferred_protocol(info: PluginInfo) -> Any:
    """Return the protocol to run a method under: inductive if it can, or if its source cannot be read."""
    return "inductive" if "inductive" in info.protocols or not info.protocols else info.protocols[0]


def columns_for(info: PluginInfo, **fields: Any) -> list[ColumnSpec]:
    """Return the columns of a data set in a table: one per family of metrics that its kinds call for."""
    wanted = []
    if "numeric" in info.kinds:
        wanted += [("nrmse_rel", "numerical"), ("nrmse_std", "RMSE / SD")]
    if "categorical" in info.kinds:
        wanted.append(("pfc", "categorical"))
    if {"image", "features"} & set(info.kinds):
        wanted.append(("mse", "image or features"))
    return [
        ColumnSpec(label=label, group=info.name, dataset=info.name, metric=metric, mechanism="mcar", ratio=0.5)
        if not fields
        else ColumnSpec(label=label, group=info.name, dataset=info.name, metric=metric, **fields)
        for metric, label in wanted
    ]


def require_known_filters(specs: Sequence[TableSpec], scope: Scope, registry: Registry) -> None:
    """Raise BenchError if a filter names a method or data set that none of the specs has."""
    where = " and ".join(spec.id for spec in specs)
    cells = [cell for spec in specs for cell in spec.cells()]
    for what, wanted, own, registered in (
        ("method", scope.methods, {cell.method for cell in cells}, registry.methods),
        ("data set", scope.datasets, {cell.dataset for cell in cells}, registry.datasets),
    ):
        for name in wanted:
            if name in own:
                continue
            if name not in registered:
                raise BenchError(f"unknown {what} '{name}'.{closest(name, {*own, *registered})}")
            raise BenchError(
                f"{where} has no {what} '{name}', only {', '.join(sorted(own))}; to run it on a grid of your own, give"
                " --methods and --datasets and no table"
            )


def chosen_cells(spec: TableSpec, scope: Scope) -> list[TableCell]:
    """Return the table cells of a spec that the preset runs and the filters keep.

    A row of other presets is kept if a filter names its method.
    """

    def wanted(cell: TableCell) -> bool:
        if scope.methods:
            return cell.method in scope.methods
        return spec.rows[cell.row].runs_under(scope.preset)

    return [cell for cell in spec.cells() if wanted(cell) and (not scope.datasets or cell.dataset in scope.datasets)]


def cells_of(
    table_cells: Iterable[TableCell],
    spec: TableSpec,
    scope: Scope,
    registry: Registry,
    contents: Mapping[tuple[str, bool], str],
    tuned: TunedParameters | None = None,
) -> list[Cell]:
    """Return the distinct cells behind table cells, in order.

    ``contents`` maps (data set, with target) to content hashes; table cells whose data set is not in it, or whose
    method is not registered, are left out. Raises BenchError on a parameter or protocol that a method does not have, on
    a mechanism that cannot be used, and if tuned parameters are asked for that ``tuned`` does not have.
    """
    cells: dict[str, Cell] = {}
    for asked in table_cells:
        content = contents.get((asked.dataset, asked.include_target))
        if content is None or asked.method not in registry.methods:
            continue
        method, dataset = registry.methods[asked.method], registry.dataset(asked.dataset)
        mechanism = registry.mechanism(asked.mechanism)
        if mechanism.error is not None:
            raise BenchError(mechanism.error)
        if method.error is None and asked.protocol not in method.protocols:
            raise BenchError(
                f"{spec.id}: method '{method.name}' is {' or '.join(method.protocols)} and may not pass as"
                f" {asked.protocol}; say so in its row"
            )
        parameter_set = effective_set(method, scope.parameter_set)
        for seed in spec.seeds:
            chosen: Mapping[str, Any] = {}
            if parameter_set == TUNED and TUNED not in method.parameter_sets:
                chosen = (tuned or TunedParameters()).chosen(method, asked.dataset, seed, content)
            parameters = resolved_parameters(method, parameter_set, {**chosen, **asked.parameters})
            cell = Cell(
                dataset=asked.dataset,
                content=content,
                include_target=asked.include_target,
                mechanism=asked.mechanism,
                mechanism_version=mechanism.version,
                mechanism_parameters={**mechanism.parameters, **asked.mechanism_parameters},
                mechanism_overrides=dict(asked.mechanism_parameters),
                ratio=asked.ratio,
                method=asked.method,
                method_version=method.version,
                parameter_set=parameter_set,
                overrides=dict(asked.parameters),
                parameters=parameters,
                seed=seed,
                repeat=spec.repeat,
                protocol=asked.protocol,
                preset=scope.preset,
                budget=budget_for(scope.preset, dataset.kinds).as_json(),
                engine=engine_version(dataset.kinds),
                precision=scope.precision if method.uses_torch else HIGHEST,
            )
            cells.setdefault(cell.key, cell)
    return list(cells.values())


def effective_set(method: PluginInfo, parameter_set: str) -> str:
    """Return the parameter set a method runs with: ``default`` if it does not have the one asked for.

    ``literal`` is a reading of the paper, which only its own methods have.
    """
    return parameter_set if parameter_set in sets_of(method) else "default"


def sets_of(method: PluginInfo) -> set[str]:
    """Return the names of a method's parameter sets, with ``tuned`` if it has something to tune."""
    return {*method.parameter_sets, *((TUNED,) if method.tunable else ())}


def require_parameter_set(name: str, registry: Registry) -> None:
    """Raise BenchError unless some method has a parameter set of this name."""
    known = {set_name for info in registry.methods.values() for set_name in sets_of(info)}
    if name not in known:
        raise BenchError(f"no method has a parameter set '{name}'.{closest(name, known)}")


def resolved_parameters(method: PluginInfo, parameter_set: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's parameters under one of its sets and overrides; raises BenchError on an unknown override."""
    if method.error is not None:
        return dict(overrides)
    # Tuned parameters are changes of the defaults, unless the method writes a set of that name out.
    base = method.parameter_sets.get(parameter_set, method.parameter_sets["default"])
    for name in overrides:
        if name not in base:
            raise BenchError(f"method '{method.name}' has no parameter '{name}'.{closest(name, base)}")
    return {**base, **overrides}


def jobs_of(cells: Sequence[Cell], registry: Registry) -> list[Job]:
    """Group cells into jobs: those of a stacking method that differ in nothing but seed, mechanism or ratio.

    Raises BenchError if a plug-in of a cell is not there.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        shape = cell.as_json()
        if registry.method(cell.method).stackable:
            for name in STACKED_OVER:
                del shape[name]
        groups.setdefault(canonical_json(shape), []).append(cell)
    return [Job(tuple(group), Plugins.of(group, registry)) for group in groups.values()]
