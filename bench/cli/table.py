"""The verb ``table``: tables from stored rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.console import console
from bench.cli.options import REQUIRED, Default, takes
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.experiment.scope import Scope
    from bench.plugins.registry import Registry
    from bench.report.table import ReportTable
    from bench.run.request import Place


@takes(
    "tables",
    "preset",
    "parameters",
    "precision",
    "seeds",
    "published",
    "extended",
    "output",
    "store",
    "shipped",
    "plugins",
    "stand_in",
    tables=REQUIRED,
    preset=Default("", "the fullest complete one"),
)
def table(scope: Scope, place: Place, published: bool, extended: bool, output: Path | None) -> None:
    """Print tables from stored rows in the paper's layout, and write them as LaTeX, Markdown, CSV and a figure.

    Of `all` tables the output holds one LaTeX document as well, with the paper's tables beside.
    """
    from bench.report import write_report
    from bench.report.latex import latex_document
    from bench.report.terminal import print_table
    from bench.run.progress import print_line

    if output is not None and output.exists() and not output.is_dir():
        raise BenchError(f"--output: {output} is a file; name a folder")
    screen = console()
    scope = with_all_tables(scope)
    reports, told = collected(scope, place, extended=extended)
    for name, report in zip(scope.tables, reports, strict=True):
        print_table(report, screen, published)
        if report.preset is None:
            other = "" if place.shipped else ", or add --shipped for the rows that ship with the suite"
            option = " --stand-in" if report.spec.stand_ins else ""
            where = " and ".join(map(str, place.folders))
            lacking = f"No row of {report.spec.id} is in {where}: run it with `vsae-bench run {name}{option}`{other}."
            screen.print(lacking)
        if output is not None:
            for path in write_report(report, output, published):
                screen.print(f"wrote {path}", highlight=False)
    if output is not None and len(reports) > 1:
        path = output / "all.tex"
        path.write_text(latex_document(reports, published), encoding="utf-8")
        screen.print(f"wrote {path}", highlight=False)
    for line in told:
        print_line(screen, line)


def with_all_tables(scope: Scope) -> Scope:
    """Return a scope with every table of the suite where it names ``all``."""
    from bench.experiment.reader import table_ids

    if "all" not in scope.tables:
        return scope
    named = (name for part in scope.tables for name in (table_ids() if part == "all" else (part,)))
    return replace(scope, tables=tuple(dict.fromkeys(named)))


def collected(
    scope: Scope, place: Place, tuned_for_all: bool = True, extended: bool = True
) -> tuple[list[ReportTable], list[str]]:
    """Return the tables of a scope from the stored rows of a place, and what the store tells of rows left out.

    They are in the paper's layout unless they are to be ``extended`` by what the suite adds.
    A table of tuned methods of which some are not tuned raises BenchError if it is to be ``tuned_for_all``.
    """
    from bench.experiment.expand import sets_of, specs_of
    from bench.experiment.tuned import TUNED
    from bench.plugins.registry import Registry
    from bench.report import asked_of_store, collect, read_published
    from bench.run.store import Store

    scope.require_valid()
    place.require_stores()
    registry = Registry.scan(place.plugins)
    store = Store(*place.folders)
    known = {name: sets_of(info) for name, info in registry.methods.items()}
    reports = []
    for full in specs_of(scope, registry):
        spec = full if extended else full.in_paper_layout()
        results = list(store.rows(**asked_of_store(spec)))
        without = {cell.dataset for cell in spec.cells()} - {result.cell.dataset for result in results}
        report = collect(
            spec,
            results,
            read_published(),
            scope.preset or None,
            scope.parameter_set,
            precision=scope.precision,
            known_methods=known,
            torch_methods={name for name, info in registry.methods.items() if info.uses_torch},
            unobtained=_unobtained(without, registry),
            code=registry.code,
        )
        if tuned_for_all and scope.parameter_set == TUNED and report.preset is not None:
            _require_all_tuned(report, registry)
        reports.append(report)
    return reports, list(store.told())


def _require_all_tuned(report: ReportTable, registry: Registry) -> None:
    """Raise BenchError unless every row with something to tune has tuned rows: like is compared with like."""
    lacking: dict[str, list[str]] = {}
    for cell in report.cells:
        method = registry.methods.get(cell.spec.method)
        if method is not None and method.tunable and cell.status == "missing":
            datasets = lacking.setdefault(method.name, [])
            if cell.spec.dataset not in datasets:
                datasets.append(cell.spec.dataset)
    if not lacking:
        return
    listed = "; ".join(f"{method} on {', '.join(datasets)}" for method, datasets in lacking.items())
    raise BenchError(
        f"{report.spec.id}: a table of tuned methods is shown only if all are tuned that can be, and no tuned "
        f"rows are there of {listed}: `vsae-bench tune METHOD DATASET`, then `run --parameters tuned`"
    )


def _unobtained(names: Iterable[str], registry: Registry) -> dict[str, str]:
    """Return, for each data set without its files, which they are, how to get them, and what could stand in."""
    from bench.experiment.expand import stand_in_advice
    from bench.files.fetch import lacking_files
    from bench.plugins.registry import load

    found: dict[str, str] = {}
    for name in sorted(set(names) & set(registry.datasets)):
        try:
            lacking = lacking_files(load(registry.dataset(name))())
        except BenchError:  # a plug-in that does not load: running it says why
            continue
        if lacking:
            found[name] = lacking + stand_in_advice(name, registry)
    return found
