"""The verbs of ``plot``: from stored rows, or from exhibits made where there are none yet, to pictures in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.data.schema import IntArray, Schema
from bench.data.table import Values
from bench.errors import BenchError, closest
from bench.experiment.cell import Cell, Job
from bench.experiment.expand import preferred_protocol, sets_of
from bench.experiment.presets import budget_for
from bench.experiment.specs import ColumnSpec, Defaults, RowSpec, TableSpec
from bench.paths import shipped_rows_folder
from bench.plugins.registry import PluginInfo, Registry
from bench.problem.metrics import find_metric
from bench.report.figures.style import Heading, require_formats, save_figure
from bench.report.table import ReportTable, collect
from bench.report.text import TRANSDUCTIVE_MARK
from bench.run.job import Surroundings
from bench.run.lock import held
from bench.run.plan import RunRequest, choose_device, grid_of_your_own, plan_jobs, require_parameter_set
from bench.run.progress import RunProgress, recorded_costs, say
from bench.run.snapshot import Exhibit, exhibit_path, exhibits_folder, keep_exhibit, kept_exhibit, make_exhibit, shows
from bench.run.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from bench.report.figures.curves import TrainingRun
    from bench.report.figures.grid import ShownRows
    from bench.report.figures.panels import ScoredRows

FLOOR = "mean_mode"
DEFAULT_METHOD = "vsae"
DEFAULT_SEEDS = (0, 1, 2)
#: What a figure of numbers or categories holds at most, unless attributes are named.
MOST_PANELS = 6
#: Lines of a figure of draws or of made-up rows, and lines of draws in a panel of a table's attribute.
LINES, PANEL_LINES = 6, 8
#: The words on what marks mean.
TILE_MARKS = "hatched or ?: hidden; ✓ right, ✗ wrong"


@dataclass(frozen=True)
class PlotRequest:
    """What to draw, of what, and where to.

    ``seeds``, ``ratios`` and ``methods`` that are empty stand for what the verb takes by default. ``rows`` and
    ``draws`` bound what is shown of rows and of draws of a row; as many as fit where they are None.
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...] = ()
    mechanism: str = "mcar"
    ratios: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    preset: str = ""
    parameter_set: str = "default"
    metrics: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    rows: int | None = None
    draws: int | None = None
    store: Path = Path("results") / "local"
    shipped: bool = False
    plugins: tuple[Path, ...] = ()
    device: str = "auto"
    output: Path = Path("results") / "rendered"
    formats: tuple[str, ...] = ()


# The verbs


def plot_ratios(request: PlotRequest, console: Console) -> list[Path]:
    """Draw error over missing ratio from stored rows, one figure a data set; returns the files.

    Raises BenchError, naming the command that makes them, where there are no rows to draw.
    """
    from bench.report.figures.curves import draw_ratios, ratio_panels

    registry = _ready(request)
    written: list[Path] = []
    for dataset in request.datasets:
        table, asked = _ratio_table(request, dataset, registry)
        panels = ratio_panels(table)
        lacking = _lacking(table, request, asked)
        if not any(not curve.floor for panel in panels for curve in panel.curves):
            raise BenchError(f"no rows to draw of {dataset}: {lacking}")
        if lacking:
            say(console, f"{dataset}: {lacking}")
        written += _save(
            draw_ratios(panels, _ratio_heading(table, request, dataset)),
            request,
            console,
            [
                "ratios",
                dataset,
                request.mechanism,
                str(table.preset),
                request.parameter_set,
            ],
        )
    return written


def plot_imputations(request: PlotRequest, console: Console) -> list[Path]:
    """Draw test rows as they are, as they were shown and as each method imputed them; returns the files."""
    from bench.report.figures.attribute import POINTS, draw_confusion, draw_scatter
    from bench.report.figures.grid import draw_grid, imputation_lines, thumbnails_that_fit
    from bench.report.figures.panels import confusion_panels, scatter_panels

    registry = _ready(request)
    written: list[Path] = []
    for dataset in request.datasets:
        found = _exhibits(_one_seed(request), dataset, registry, console)
        first = found[0][1]
        schema, imputed = first.schema, {cell.method: exhibit.imputed for cell, exhibit in found}
        place = _place(request, found[0][0])
        if schema.of_kind("image").size:
            fitting = thumbnails_that_fit(schema, max(len("observed"), *(len(name) for name in imputed)))
            rows = _shown(first).take(slice(0, request.rows or fitting))
            on_shown = {name: _at(values, first.shown) for name, values in imputed.items()}
            lines = imputation_lines(rows, on_shown, fitting)
            heading = _heading("Imputations", request, found[0][0], TILE_MARKS)
            written += _save(draw_grid(lines, heading), request, console, ["imputations", *place])
        numbers = _chosen(request, schema, ("numeric", "features"))
        if numbers:
            most = numbers if request.attributes else numbers[:MOST_PANELS]
            note = _cut(len(most), len(numbers), f"hidden test entries, at most {POINTS} a panel and method")
            panels = scatter_panels(_scored(first), imputed, most)
            heading = _heading("Imputed numbers", request, found[0][0], note)
            if panels:
                figure = draw_scatter(panels, heading)
                written += _save(figure, request, console, ["imputations", *place, "numbers"])
        categories = _chosen(request, schema, ("categorical",))
        if categories:
            most = categories if request.attributes else categories[: max(1, MOST_PANELS // len(found))]
            note = _cut(len(most), len(categories), "all hidden test entries")
            confusions = confusion_panels(_scored(first), imputed, most)
            heading = _heading("Imputed categories", request, found[0][0], note)
            if confusions:
                figure = draw_confusion(confusions, heading)
                written += _save(figure, request, console, ["imputations", *place, "categories"])
    return written


def plot_samples(request: PlotRequest, console: Console) -> list[Path]:
    """Draw several imputations of the same rows, one figure a method; returns the files."""
    from bench.report.figures.attribute import draw_draws
    from bench.report.figures.grid import draw_grid, sample_lines, thumbnails_that_fit
    from bench.report.figures.panels import draws_panels

    registry = _ready(request)
    _require_that_show("sample", "draws no samples: it gives one imputation of a row", request, registry)
    written: list[Path] = []
    for dataset in request.datasets:
        for cell, exhibit in _exhibits(_one_seed(request), dataset, registry, console):
            schema = exhibit.schema
            place = _place(request, cell, method=True)
            title = f"Draws from {cell.method}"
            if schema.of_kind("image").size:
                count = min(request.draws or thumbnails_that_fit(schema, headed=True) - 2, len(exhibit.samples))
                rows = _shown(exhibit).take(slice(0, request.rows or LINES))
                lines = sample_lines(rows, exhibit.samples[:count])
                heading = _heading(title, request, cell, f"{TILE_MARKS}; draws of the hidden part, each on its own")
                columns = ["observed", "truth", *(str(draw + 1) for draw in range(count))]
                figure = draw_grid(lines, heading, columns)
            else:
                chosen = _chosen(request, schema, ("numeric", "categorical", "features"))
                most = chosen if request.attributes else chosen[:MOST_PANELS]
                samples = exhibit.samples[: request.draws]
                panels = draws_panels(_scored(exhibit), exhibit.imputed, samples, most, request.rows or PANEL_LINES)
                sizes = "; dots of categories: share of draws" if any(panel.levels for panel in panels) else ""
                note = _cut(len(most), len(chosen), f"{len(samples)} draws of each hidden entry{sizes}")
                figure = draw_draws(panels, _heading(title, request, cell, note))
            written += _save(figure, request, console, ["samples", *place])
    return written


def plot_generations(request: PlotRequest, console: Console) -> list[Path]:
    """Draw rows made up from the prior, one figure a method; returns the files."""
    from bench.report.figures.attribute import draw_marginals
    from bench.report.figures.grid import draw_grid, generation_lines, thumbnails_that_fit
    from bench.report.figures.panels import marginal_panels

    registry = _ready(request)
    _require_that_show("generate", "has no prior to generate rows from", request, registry)
    written: list[Path] = []
    for dataset in request.datasets:
        for cell, exhibit in _exhibits(_one_seed(request), dataset, registry, console):
            assert exhibit.generated is not None, "a method that generates has generated"
            schema, generated = exhibit.schema, exhibit.generated
            title = f"Rows made up by {cell.method}"
            if schema.of_kind("image").size:
                fitting = thumbnails_that_fit(schema)
                count = request.rows or fitting * min(LINES, len(generated.scalars) // fitting)
                lines = generation_lines(schema, generated, count, fitting)
                figure = draw_grid(lines, _heading(title, request, cell, "from the prior, nothing observed"))
            else:
                chosen = _chosen(request, schema, ("numeric", "categorical", "features"))
                most = chosen if request.attributes else chosen[:MOST_PANELS]
                panels = marginal_panels(_scored(exhibit), generated, most)
                note = _cut(len(most), len(chosen), f"{len(generated.scalars)} rows from the prior")
                figure = draw_marginals(panels, _heading(title, request, cell, note))
            written += _save(figure, request, console, ["generations", *_place(request, cell, method=True)])
    return written


def plot_training(request: PlotRequest, console: Console) -> list[Path]:
    """Draw loss and validation error over the epochs, one figure a method and one line a seed; returns the files.

    Rows that hold both curves are used; where they do not, the method is trained.
    """
    from bench.report.figures.curves import draw_training

    registry = _ready(request)
    written: list[Path] = []
    for dataset in request.datasets:
        for method in request.methods or (DEFAULT_METHOD,):
            asked = replace(request, methods=(method,), seeds=request.seeds or DEFAULT_SEEDS)
            cells = _cells(asked, dataset, registry, console)
            rows = {row["key"]: row for row in Store(request.store).rows({dataset}, {method}) if row["status"] == "ok"}
            stored = [rows.get(cell.key, {}).get("diagnostics", {}) for cell in cells]
            runs = [_training_run(cell, facts) for cell, facts in zip(cells, stored, strict=True)]
            if None in runs:
                found = _exhibits(asked, dataset, registry, console)
                runs = [_training_run(cell, exhibit.diagnostics) for cell, exhibit in found]
            if None in runs:
                raise BenchError(f"method '{method}' keeps no curves of its training; the neural methods do")
            note = (
                "one line a seed; validation error: that of held-out entries over the floor's; the loss gains its last "
                "terms when the warm phase ends"
            )
            seeds = f"seeds {_listed(cell.seed for cell in cells)}"
            heading = _heading(f"Training of {method}", request, cells[0], note, seeds)
            place = _place(request, cells[0], method=True, seed=False)
            figure = draw_training([run for run in runs if run is not None], heading)
            written += _save(figure, request, console, ["training", *place])
    return written


# Rows to curves


def default_metrics(info: PluginInfo) -> tuple[str, ...]:
    """Return the metrics to draw of a data set: one for its numbers, one for its categories, or that of its images."""
    kinds = set(info.kinds)
    if kinds & {"image", "features"}:
        return ("mse", "pfc") if "categorical" in kinds else ("mse",)
    return tuple(metric for kind, metric in (("numeric", "nrmse_std"), ("categorical", "pfc")) if kind in kinds)


def ratio_spec(
    dataset: str,
    methods: Sequence[str],
    mechanism: str,
    ratios: Sequence[float],
    metrics: Sequence[str],
    seeds: Sequence[int],
    registry: Registry,
) -> TableSpec:
    """Return a table with one row a method, the floor first, and one column a metric and ratio."""
    rows = [RowSpec(label=f"{FLOOR} (floor)", method=FLOOR, protocol="inductive", floor=True)]
    rows += [
        RowSpec(label=name, method=name, protocol=preferred_protocol(registry.method(name)))
        for name in methods
        if name != FLOOR
    ]
    columns = [
        ColumnSpec(label=f"{ratio:g}", group=metric, dataset=dataset, metric=metric, mechanism=mechanism, ratio=ratio)
        for metric in metrics
        for ratio in ratios
    ]
    return TableSpec(
        id="ratios",
        title=f"Error over missing ratio: {dataset}",
        label="fig:ratios",
        seeds=tuple(seeds),
        defaults=Defaults(include_target=False, attribute="all"),
        rows=tuple(rows),
        columns=tuple(columns),
    )


def _ratio_table(request: PlotRequest, dataset: str, registry: Registry) -> tuple[ReportTable, tuple[str, ...]]:
    """Return the table behind the curves, and the methods that were asked for."""
    info = registry.dataset(dataset)
    metrics = request.metrics or default_metrics(info)
    for name in metrics:
        kinds = find_metric(name).kinds
        if not set(kinds) & set(info.kinds):
            raise BenchError(f"--metric {name} is for {' and '.join(kinds)} attributes, which {dataset} has none of")
    registry.mechanism(request.mechanism)
    folder = shipped_rows_folder() if request.shipped else request.store
    stored = list(Store(folder).rows({dataset}))
    cells = [row["cell"] for row in stored if row["cell"]["mechanism"] == request.mechanism]
    there = sorted({cell["method"] for cell in cells} & registry.methods.keys() - {FLOOR})
    methods = request.methods or tuple(there) or (DEFAULT_METHOD,)
    ratios = request.ratios or tuple(sorted({cell["ratio"] for cell in cells})) or tuple(k / 10 for k in range(1, 10))
    seeds = request.seeds or DEFAULT_SEEDS
    spec = ratio_spec(dataset, methods, request.mechanism, ratios, metrics, seeds, registry)
    known = {name: sets_of(info) for name, info in registry.methods.items()}
    table = collect(spec, stored, None, request.preset or None, request.parameter_set, known_methods=known)
    return table, tuple(name for name in methods if name != FLOOR)


def _lacking(table: ReportTable, request: PlotRequest, methods: Sequence[str]) -> str:
    """Return how many points lack rows and the command that makes them, or nothing; the floor may be left out."""
    cells = [cell for cell in table.cells if cell.spec.method in methods]
    points = {(cell.spec.method, cell.spec.ratio): cell for cell in cells}
    lacking = [point for point, cell in points.items() if "not run" in cell.reason or cell.status == "missing"]
    if not lacking:
        return ""
    entry = cells[0].spec
    names = [*dict.fromkeys(method for method, _ in lacking)]
    words = [
        "vsae-bench run",
        f"--datasets {entry.dataset}",
        f"--methods {','.join([*names, FLOOR])}",
        f"--ratios {','.join(f'{ratio:g}' for ratio in sorted({ratio for _, ratio in lacking}))}",
        f"--mechanisms {entry.mechanism}" if entry.mechanism != "mcar" else "",
        f"--seeds {','.join(map(str, request.seeds))}" if request.seeds else "",
        f"--preset {request.preset or table.preset or 'quick'}",
        f"--parameters {request.parameter_set}" if request.parameter_set != "default" else "",
        f"--store {request.store}" if request.store != PlotRequest(()).store else "",
        *(f"--plugins {folder}" for folder in request.plugins),
    ]
    made = " ".join(word for word in words if word)
    return f"{len(lacking)} of {len(points)} points lack rows; `{made}` makes them"


def _ratio_heading(table: ReportTable, request: PlotRequest, dataset: str) -> Heading:
    seeds = table.spec.seeds
    counts = {cell.n for cell in table.cells if cell.values}
    over = f"n\u00a0=\u00a0{len(seeds)}" if counts == {len(seeds)} else f"n\u00a0=\u00a0{min(counts)} to {max(counts)}"
    bars = "no bars" if counts == {1} else "bars: ± sample standard deviation"
    subset = "; only a subset of the data" if any(cell.subset for cell in table.cells) else ""
    failed = sorted({cell.spec.method for cell in table.cells if cell.status in ("failed", "skipped", "unscored")})
    marked = any(table.transductive(row) for row in range(len(table.spec.rows)))
    protocol = f"; {TRANSDUCTIVE_MARK} transductive" if marked else ""
    nothing = f"; without a result somewhere: {', '.join(failed)}" if failed else ""
    details = (
        f"{request.mechanism}; preset {table.preset}, parameter set {request.parameter_set}; mean over seeds "
        f"{_listed(seeds)} ({over}), {bars}{subset}{protocol}{nothing}; lower is better"
    )
    return Heading(f"Error over missing ratio: {dataset}", details)


# Cells to exhibits


def _ready(request: PlotRequest) -> Registry:
    """Return the registry; raises BenchError on what is wrong with a request, before anything is computed."""
    require_formats(request.formats)
    if request.output.exists() and not request.output.is_dir():
        raise BenchError(f"--output: {request.output} is a file; name a folder")
    if request.preset:
        budget_for(request.preset, ())
    Store(request.store)
    registry = Registry.scan(request.plugins)
    require_parameter_set(request.parameter_set, registry)
    return registry


def _one_seed(request: PlotRequest) -> PlotRequest:
    """Return the request for the first of its seeds alone: what is shown are rows, not their average."""
    return replace(request, methods=request.methods or (DEFAULT_METHOD,), seeds=(request.seeds or DEFAULT_SEEDS)[:1])


def _require_that_show(what: str, otherwise: str, request: PlotRequest, registry: Registry) -> None:
    """Raise BenchError unless every method asked for can ``sample`` or ``generate``, before any is trained."""
    for name in request.methods or (DEFAULT_METHOD,):
        if not shows(what, registry.method(name)):
            raise BenchError(f"method '{name}' {otherwise}")


def _cells(request: PlotRequest, dataset: str, registry: Registry, console: Console) -> list[Cell]:
    """Return the cells of a request on one data set: those a grid of ``run`` has."""
    grid = RunRequest(
        preset=request.preset or "quick",
        parameter_set=request.parameter_set,
        methods=request.methods,
        datasets=(dataset,),
        seeds=request.seeds,
        mechanisms=(request.mechanism,),
        ratios=request.ratios[:1],
        store=request.store,
    )
    return plan_jobs([grid_of_your_own(grid, registry)], grid, registry, console)[0]


def _exhibits(request: PlotRequest, dataset: str, registry: Registry, console: Console) -> list[tuple[Cell, Exhibit]]:
    """Return the exhibits of all cells of a request on one data set; those that are not kept yet are made and kept."""
    cells = _cells(request, dataset, registry, console)
    paths = {cell.key: exhibit_path(request.store, cell) for cell in cells}
    kept: dict[str, Exhibit | None] = {cell.key: kept_exhibit(paths[cell.key]) for cell in cells}
    jobs = [Job((cell,)) for cell in cells if kept[cell.key] is None]
    if jobs:
        needs_torch = any("torch" in registry.method(cell.method).requires for cell in cells)
        device = choose_device(request.device, needs_torch)
        stored = Store(request.store).rows({dataset}, {cell.method for cell in cells})
        # A folder and a lock of their own: pictures may be made while a run fills the store.
        folder = exhibits_folder(request.store)
        with held(folder), RunProgress(jobs, recorded_costs(list(stored)), console) as progress:
            for job in jobs:

                def report(done: int, total: int, stage: str, key: str = job.key) -> None:
                    progress.progressed(key, done, total, stage)

                progress.started(job)
                surroundings = Surroundings(device, 1, folder / "checkpoints", report)
                cell = job.cells[0]
                exhibit = make_exhibit(cell, registry, surroundings)
                keep_exhibit(exhibit, paths[cell.key])
                for checkpoint in (folder / "checkpoints").glob(f"{job.key}-*.pt"):
                    checkpoint.unlink()
                # As it will be read next time, so that both pictures are the same.
                kept[cell.key] = kept_exhibit(paths[cell.key])
                progress.ended(job, "trained for this picture and the next ones")
    found = [(cell, kept[cell.key]) for cell in cells]
    return [(cell, exhibit) for cell, exhibit in found if exhibit is not None]


def _training_run(cell: Cell, facts: Mapping[str, Any]) -> TrainingRun | None:
    """Return a training's curves from a row's diagnostics, None where they are not there."""
    from bench.report.figures.curves import TrainingRun

    if not {"loss_curve", "validation_curve", "best_epoch", "best_validation_error"} <= facts.keys():
        return None
    loss, validation = ([(point[0], point[1]) for point in facts[name]] for name in ("loss_curve", "validation_curve"))
    return TrainingRun(cell.seed, loss, validation, facts["best_epoch"], facts["best_validation_error"])


# Exhibits to what is drawn


def _at(values: Values, rows: IntArray) -> Values:
    """Return values whose blocks are of some rows with the scalars of these rows too."""
    return Values(values.scalars[rows], values.blocks)


def _shown(exhibit: Exhibit) -> ShownRows:
    from bench.report.figures.grid import ShownRows

    rows = exhibit.shown
    return ShownRows(exhibit.schema, _at(exhibit.truth, rows), exhibit.observed[rows], exhibit.present[rows])


def _scored(exhibit: Exhibit) -> ScoredRows:
    from bench.report.figures.panels import ScoredRows

    return ScoredRows(exhibit.schema, exhibit.truth, exhibit.hidden, exhibit.present, exhibit.shown)


def _chosen(request: PlotRequest, schema: Schema, kinds: Sequence[str]) -> list[int]:
    """Return the attributes of some kinds that were asked for, all where none is named; raises BenchError."""
    for name in request.attributes:
        if name not in schema.names:
            raise BenchError(f"--attributes: the data has no attribute '{name}'.{closest(name, schema.names)}")
    wanted = request.attributes or schema.names
    return [i for i, a in enumerate(schema.attributes) if a.kind in kinds and a.name in wanted]


def _cut(shown: int, there: int, note: str) -> str:
    """Return a note that says how many attributes there are, where not all are shown."""
    return note if shown == there else f"first {shown} of {there} attributes; {note}"


# Words and files


def _heading(title: str, request: PlotRequest, cell: Cell, note: str, seeds: str = "") -> Heading:
    details = (
        f"{cell.mechanism}, ratio {cell.ratio:g}, {seeds or f'seed {cell.seed}'}; preset {cell.preset}, parameter set "
        f"{request.parameter_set}; {note}"
    )
    return Heading(f"{title}: {cell.dataset}", details)


def _place(request: PlotRequest, cell: Cell, method: bool = False, seed: bool = True) -> list[str]:
    """Return what a file's name says of a cell."""
    words = [cell.dataset, *([cell.method] if method else []), cell.mechanism, f"{cell.ratio:g}"]
    return [*words, *([f"seed{cell.seed}"] if seed else []), cell.preset, request.parameter_set]


def _save(figure: Figure, request: PlotRequest, console: Console, words: Sequence[str]) -> list[Path]:
    """Write a figure under a name made of words and say so."""
    stem = request.output / "_".join(quote(word, safe="") for word in words)
    try:
        written = list(save_figure(figure, stem, require_formats(request.formats)))
    except OSError as error:
        raise BenchError(f"--output: {stem} cannot be written: {error.strerror or error}") from None
    for path in written:
        say(console, f"wrote {path}")
    return written


def _listed(items: Any) -> str:
    return ", ".join(str(item) for item in items)
