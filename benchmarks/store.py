"""What a store of many rows costs: putting a row, finding what is missing, and the paper's seven tables from it.

``python -m benchmarks.store`` fills stores of 1e3 to 1e6 rows with what a long use leaves: the cells of Tables 5 to 11
under ``quick``, and the same grid again with further seeds. A row is as long as the shipped ones. Needs no data.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import Line, Report, alternate, finish, isolated, medians, parsed, parser, spread

if TYPE_CHECKING:
    from bench.experiment.cell import Cell
    from bench.experiment.result import Result
    from bench.experiment.specs import TableSpec
    from bench.plugins.registry import Registry

TABLES = tuple(f"table{number:02d}" for number in range(5, 12))
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SMALL_SIZES = (300, 3_000)
#: Seconds that ``missing`` and all seven tables may take from a store of so many rows.
LIMIT_SECONDS, LIMIT_ROWS = 2.0, 100_000
#: How much a put may cost in the largest store, in units of the smallest.
PUT_LIMIT = 1.5
PUTS = 200
#: Memory that is no matter of the rows, in MiB.
MEMORY_SLACK = 32.0


def specs() -> list[TableSpec]:
    """Return the seven tables of the paper."""
    from bench.experiment.reader import load_spec

    return [load_spec(name) for name in TABLES]


def table_cells(registry: Registry) -> list[Cell]:
    """Return the distinct cells of the seven tables under ``quick``, with made-up contents of the data."""
    from bench.experiment.expand import cells_of
    from bench.experiment.scope import Scope
    from bench.seeds import digest

    cells: dict[str, Cell] = {}
    for spec in specs():
        table = spec.cells()
        contents = {(c.dataset, c.include_target): digest([c.dataset, c.include_target]) for c in table}
        cells.update((cell.key, cell) for cell in cells_of(table, spec, Scope(), registry, contents))
    return list(cells.values())


def synthetic_cells(registry: Registry) -> Iterator[Cell]:
    """Yield the tables' cells, then the same with seeds that no table has, without end."""
    cells = table_cells(registry)
    seeds = 1 + max(cell.seed for cell in cells)
    for turn in count():
        for cell in cells:
            yield replace(cell, seed=cell.seed + seeds * turn)


def templates() -> dict[str, Result]:
    """Return one shipped result of each method that ran well, by method."""
    from bench.paths import shipped_rows_folder
    from bench.run.store import Store

    return {result.cell.method: result for result in Store(shipped_rows_folder()).rows() if result.status == "ok"}


def synthetic_results(registry: Registry) -> Iterator[Result]:
    """Yield results as long as the shipped ones, without end; VSAE's stand in for methods that have none."""
    shipped = templates()
    for cell in synthetic_cells(registry):
        result = shipped.get(cell.method, shipped["vsae"])
        yield replace(result, key=cell.key, cell=cell, stack=(cell.key, cell.key[::-1]))


def fill(folder: Path, rows: int, registry: Registry) -> None:
    """Write a store of so many rows, a few thousand at a time."""
    from bench.run.store import Store

    store, made = Store(folder), islice(synthetic_results(registry), rows)
    while part := list(islice(made, 5000)):
        store.put(part)


def find_missing(folder: str) -> int:
    """Return how many of the tables' cells a store lacks; as many are asked for besides that it cannot have."""
    from bench.plugins.registry import Registry
    from bench.run.store import Store

    return len(Store(folder).missing(asked_cells(table_cells(Registry.scan()))))


def asked_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the tables' cells, and the same of another engine, which no store has."""
    return [*cells, *(replace(cell, engine=0) for cell in cells)]


def print_tables(folder: str) -> int:
    """Print the seven tables from a store, as the command does; return how many of their cells have a value."""
    from rich.console import Console

    from bench.plugins.registry import Registry
    from bench.report import asked_of_store, collect, read_published
    from bench.report.terminal import print_table
    from bench.run.store import Store

    registry, store = Registry.scan(), Store(folder)
    known = {name: set(info.parameter_sets) for name, info in registry.methods.items()}
    console, filled = Console(file=io.StringIO(), width=200), 0
    for spec in specs():
        report = collect(spec, store.rows(**asked_of_store(spec)), read_published(), known_methods=known)
        print_table(report, console, True)
        filled += sum(cell.n > 0 for cell in report.cells)
    return filled


def put_seconds(folder: Path, results: Sequence[Result]) -> list[float]:
    """Return the seconds that each of a few results takes to be put, one by one, flushed to the disk."""
    from bench.run.store import Store

    store, seconds = Store(folder), []
    for result in results:
        began = time.perf_counter()
        store.put([result])
        seconds.append(time.perf_counter() - began)
    return seconds


def measure(folder: Path, size: int, rounds: int, registry: Registry) -> tuple[list[Line], float]:
    """Fill a store, take its times and memory, and return its lines and the median seconds of a put."""
    from bench.run.store import Store

    fill(folder, size, registry)
    cells = asked_cells(table_cells(registry))
    store = Store(folder)
    lacking = store.missing(cells)
    assert len(lacking) >= len(cells) // 2, "the store holds rows that were never put"
    seconds = alternate({"missing": lambda: store.missing(cells), "tables": lambda: print_tables(str(folder))}, rounds)
    took = medians(seconds)
    both = took["missing"] + took["tables"]
    judged = size <= LIMIT_ROWS
    lines = [
        Line(
            f"missing and seven tables, {size} rows",
            LIMIT_SECONDS / both,
            both,
            LIMIT_SECONDS,
            target=f"<= {LIMIT_SECONDS:g} s" if judged else "",
            reached=both <= LIMIT_SECONDS if judged else None,
            notes={**took, "spread": max(spread(timings) for timings in seconds.values())},
        )
    ]
    on_disk = sum(path.stat().st_size for path in folder.glob("*/*.jsonl")) / 2**20
    for function in ("find_missing", "print_tables"):
        name = f"benchmarks.store:{function}"
        _, peak = isolated(name, folder=str(folder))
        _, empty = isolated(name, folder=str(folder / "empty"))
        more = max(peak - empty, 1.0)
        lines.append(
            Line(
                f"memory of {function}, {size} rows",
                on_disk / more,
                more,
                on_disk,
                "MiB",
                "<= the store on disk",
                more <= on_disk + MEMORY_SLACK,
                {"of it before the first row": empty},
            )
        )
    fresh = [replace(cell, seed=10**6 + turn) for turn, cell in enumerate(islice(synthetic_cells(registry), PUTS))]
    template = next(synthetic_results(registry))
    put = put_seconds(folder, [replace(template, key=cell.key, cell=cell) for cell in fresh])
    return lines, statistics.median(put)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    from bench.plugins.registry import Registry

    made = parser("store", __doc__)
    made.add_argument("--rows", default="", help="sizes of the stores, comma-separated (default 1e3 to 1e6)")
    made.add_argument("--folder", type=Path, default=None, help="where to write them: 1e6 rows are 5 GB")
    options = parsed(made, arguments)
    sizes = [int(float(size)) for size in options.rows.split(",") if size] or (SMALL_SIZES if options.small else SIZES)
    registry, lines, puts = Registry.scan(), [], {}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            own, puts[size] = measure(Path(folder), size, options.rounds, registry)
            lines += own
    first = puts[sizes[0]]
    for size, seconds in puts.items():
        limit = PUT_LIMIT * first
        lines.append(
            Line(
                f"put, {size} rows",
                limit / seconds,
                1000 * seconds,
                1000 * limit,
                "ms",
                f"<= {PUT_LIMIT:g} of {sizes[0]} rows",
                seconds <= limit,
            )
        )
    return finish(Report("store", "limit / ours", lines), options)


if __name__ == "__main__":
    raise SystemExit(main())
