"""The command ``vsae-bench``: list, data, run, tune, table, plot, check, env.

Heavy packages are imported inside the verbs that need them, so that ``--help`` and ``list`` are instant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import BenchError

if TYPE_CHECKING:
    from rich.console import Console

    from bench.plugins.registry import PluginInfo, Registry

app = typer.Typer(
    name="vsae-bench",
    help="A reproducibility benchmark suite for imputing missing values, built around the VSAE paper's tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

DEFAULT_STORE = Path("results") / "local"
RENDERED = Path("results") / "rendered"
#: Exit codes: something failed, bad input, Ctrl-C before a run began; ``bench.run.plan`` has those of a run.
SOME_FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
#: Typer carries Click or depends on it, by version; this is Click's base of errors in what was typed.
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugins", help="Folder with plug-ins of your own (may be given several times).", metavar="DIR"),
]
StandIn = Annotated[
    bool, typer.Option("--stand-in", help="Synthetic stand-ins, marked, for data sets that have one (MNIST+SVHN).")
]
Precision = Annotated[
    str, typer.Option(help="Of torch's products: highest (float32), high (TF32 allowed) or medium (bfloat16 allowed).")
]
StoreFolder = Annotated[Path, typer.Option("--store", help="Folder that keeps the rows.", metavar="DIR")]


def main() -> None:
    """Run the command line; whatever the user can mend is one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except BenchError as error:
        print(f"vsae-bench: {error}", file=sys.stderr)
        code = BAD_INPUT
    except USAGE_ERROR as error:
        print(f"vsae-bench: {error.format_message()}", file=sys.stderr)
        code = BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this code by itself, saying nothing
        print("vsae-bench: interrupted", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


@app.command("list")
def list_plugins(
    plugins: Plugins = None,
    load: Annotated[bool, typer.Option("--load", help="Import every plug-in and show what fails.")] = False,
) -> None:
    """List methods, data sets, mechanisms and tables."""
    from bench.experiment.spec import table_ids
    from bench.plugins.registry import Registry

    registry = Registry.scan(plugins or ())
    broken = 0
    for title, infos in (
        ("Methods", registry.methods),
        ("Data sets", registry.datasets),
        ("Mechanisms", registry.mechanisms),
    ):
        print(f"{title}:")
        width = max((len(name) for name in infos), default=0)
        for name, info in infos.items():
            problem = _load_problem(info) if load else info.error
            broken += problem is not None
            print(f"  {name:<{width}}  {_listing(info, problem)}")
        print()
    print(f"Tables:\n  {', '.join(table_ids())}")
    if broken and load:
        raise typer.Exit(SOME_FAILED)


def _load_problem(info: PluginInfo) -> str | None:
    from bench.plugins.registry import load

    try:
        load(info)
    except BenchError as error:
        return str(error)
    return None


def _listing(info: PluginInfo, problem: str | None) -> str:
    from bench.plugins.registry import available

    usable, reason = available(info)
    if problem is not None and usable:
        return f"ERROR {problem}"
    if info.error is not None:
        return f"ERROR {info.error}"
    notes = [", ".join(info.kinds)]
    if info.category == "method" and "inductive" not in info.protocols:
        notes.append(" or ".join(info.protocols))
    if info.origin != "suite":
        notes.append(f"from {info.path}")
    if not usable:
        notes.append(f"unavailable, {reason}")
    return f"{info.summary} ({'; '.join(note for note in notes if note)})"


@app.command()
def data(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; all where none is named.")] = None,
    plugins: Plugins = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch them into the cache.")] = False,
) -> None:
    """Show where each data set comes from, or fetch it."""
    from bench.files.fetch import cache_folder, describe, load_table
    from bench.plugins.registry import Registry, load

    registry = Registry.scan(plugins or ())
    print(f"cache: {cache_folder()}")
    failures = 0
    for name in names or registry.datasets:
        info = registry.dataset(name)
        try:
            instance = load(info)()
            if fetch:
                loaded = load_table(instance, include_target=False)
                rows, columns = loaded.table.present.shape
                print(f"{name}: {rows} x {columns}, {loaded.variant}, from {loaded.source}")
                continue
        except BenchError as error:
            failures += 1
            print(f"{name}: {error}")
            continue
        print(f"{name}: {info.summary}")
        for source, state in describe(instance):
            print(f"  {source}: {state}")
    if failures:
        raise typer.Exit(SOME_FAILED)


@app.command()
def run(
    tables: Annotated[
        list[str] | None, typer.Argument(help="Tables (table6, mixed, a TOML file); without one, a grid of your own.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Budget: smoke, quick, long or paper.")] = "quick",
    parameters: Annotated[str, typer.Option(help="Parameter set: default, literal or tuned.")] = "default",
    methods: Annotated[str, typer.Option(help="Only these methods, separated by commas.")] = "",
    datasets: Annotated[str, typer.Option(help="Only these data sets, separated by commas.")] = "",
    seeds: Annotated[str, typer.Option(help="Only these seeds, separated by commas.")] = "",
    mechanisms: Annotated[str, typer.Option(help="Mechanisms of a grid of your own; mcar where none is named.")] = "",
    ratios: Annotated[str, typer.Option(help="Missing ratios of a grid of your own; 0.5 where none is named.")] = "",
    store: StoreFolder = DEFAULT_STORE,
    plugins: Plugins = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a core on CPU by default.", min=1)] = None,
    threads: Annotated[int, typer.Option(help="Threads a worker; more than one is not bit-reproducible.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Precision = "highest",
    time_budget: Annotated[
        str, typer.Option("--time-budget", help="Stop cleanly before this is over, such as 9m or 1h30m.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and run nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run everything again, stored or not, and compare.")] = False,
    stand_in: StandIn = False,
) -> None:
    """Run tables, or a grid of your own; what is stored already is not run again."""
    from bench.run.plan import RunRequest, run_request

    code = run_request(
        RunRequest(
            tables=tuple(tables or ()),
            preset=preset,
            parameter_set=parameters,
            methods=_names(methods),
            datasets=_names(datasets),
            seeds=_numbers(seeds, int, "--seeds"),
            mechanisms=_names(mechanisms),
            ratios=_numbers(ratios, float, "--ratios"),
            store=store,
            plugins=tuple(plugins or ()),
            workers=workers,
            threads=threads,
            device=device,
            precision=precision,
            time_budget=time_budget,
            dry_run=dry_run,
            retry_failed=retry_failed,
            rerun=rerun,
            stand_in=stand_in,
        ),
        _console(),
    )
    if code:
        raise typer.Exit(code)


@app.command()
def tune(
    method: Annotated[str, typer.Argument(help="Method, or several separated by commas.")],
    dataset: Annotated[str, typer.Argument(help="Data set, or several separated by commas.")],
    preset: Annotated[str, typer.Option(help="Budget of each trial: smoke, quick, long or paper.")] = "quick",
    seeds: Annotated[str, typer.Option(help="Seeds, each with a choice of its own.")] = "0,1,2",
    store: StoreFolder = DEFAULT_STORE,
    plugins: Plugins = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    time_budget: Annotated[
        str, typer.Option("--time-budget", help="Stop cleanly before this is over, such as 9m or 1h30m.")
    ] = "",
    again: Annotated[bool, typer.Option("--again", help="Tune anew what was tuned before.")] = False,
) -> None:
    """Choose a method's parameters on a data set by 16 seeded trials, for `run --parameters tuned`."""
    from bench.run.tune import TuneRequest, tune_request

    code = tune_request(
        TuneRequest(
            methods=_names(method),
            datasets=_names(dataset),
            preset=preset,
            seeds=_numbers(seeds, int, "--seeds"),
            store=store,
            plugins=tuple(plugins or ()),
            device=device,
            time_budget=time_budget,
            again=again,
        ),
        _console(),
    )
    if code:
        raise typer.Exit(code)


@app.command()
def table(
    tables: Annotated[list[str], typer.Argument(help="Tables: 6, table6, mixed, a TOML file.")],
    preset: Annotated[str, typer.Option(help="smoke, quick, long or paper; by default the fullest complete one.")] = "",
    parameters: Annotated[str, typer.Option(help="Parameter set: default, literal or tuned.")] = "default",
    precision: Precision = "highest",
    published: Annotated[bool, typer.Option("--published", help="Print the paper's numbers beside ours.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for LaTeX, Markdown, CSV and a plot.", metavar="DIR")
    ] = None,
    store: StoreFolder = DEFAULT_STORE,
    shipped: Annotated[bool, typer.Option("--shipped", help="Use the rows that ship with the suite.")] = False,
    plugins: Plugins = None,
    stand_in: StandIn = False,
) -> None:
    """Print tables from stored rows, and write them as LaTeX, Markdown, CSV and a plot."""
    from bench.experiment.expand import sets_of, with_stand_ins, with_user_plugins
    from bench.experiment.spec import load_spec
    from bench.paths import shipped_rows_folder
    from bench.plugins.registry import Registry
    from bench.report import asked_of_store, collect, read_published, write_report
    from bench.report.terminal import print_table
    from bench.run.store import Store

    if output is not None and output.exists() and not output.is_dir():
        raise BenchError(f"--output: {output} is a file; name a folder")
    registry = Registry.scan(plugins or ())
    rows = Store(shipped_rows_folder() if shipped else store)
    known = {name: sets_of(info) for name, info in registry.methods.items()}
    console = _console()
    specs = [with_user_plugins(load_spec(name), registry) for name in tables]
    if stand_in:
        specs = with_stand_ins(specs, registry)
    for name, spec in zip(tables, specs, strict=True):
        stored = list(rows.rows(**asked_of_store(spec, preset or None)))
        rowless = {entry.dataset for entry in spec.entries()} - {row["cell"]["dataset"] for row in stored}
        report = collect(
            spec,
            stored,
            read_published(),
            preset or None,
            parameters,
            precision=precision,
            known_methods=known,
            torch_methods={name for name, info in registry.methods.items() if info.uses_torch},
            unobtained=_unobtained(rowless, registry),
        )
        print_table(report, console, published)
        if report.preset is None:
            other = "" if shipped else ", or add --shipped for the rows that ship with the suite"
            option = " --stand-in" if spec.stand_ins else ""
            told = f"No row of {spec.id} is in {rows.folder}: run it with `vsae-bench run {name}{option}`{other}."
            console.print(told)
        if output is not None:
            for path in write_report(report, output, published):
                console.print(f"wrote {path}", highlight=False)


def _unobtained(names: Iterable[str], registry: Registry) -> dict[str, str]:
    """Return of each data set whose files are not here which they are, how to get them, and what could stand in."""
    from bench.files.fetch import lacking_files
    from bench.plugins.registry import load
    from bench.run.plan import stand_in_advice

    found: dict[str, str] = {}
    for name in sorted(set(names) & set(registry.datasets)):
        try:
            lacking = lacking_files(load(registry.dataset(name))())
        except BenchError:  # a plug-in that does not load: running it says why
            continue
        if lacking:
            found[name] = lacking + stand_in_advice(name, registry)
    return found


plot_app = typer.Typer(
    help="Draw curves from stored rows, and what trained models make: PNG, PDF and SVG, one column wide.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(plot_app, name="plot")

PlotDatasets = Annotated[list[str], typer.Argument(help="Data sets, one picture each.", metavar="DATASETS...")]
PlotMethods = Annotated[str, typer.Option("--methods", help="Methods, separated by commas.")]
PlotMechanism = Annotated[str, typer.Option("--mechanism", help="Mechanism of missingness.")]
PlotRatio = Annotated[float, typer.Option("--ratio", help="Missing ratio.")]
PlotSeed = Annotated[int, typer.Option("--seed", help="Seed of split, mask and training.", min=0)]
PlotSeeds = Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas; 0,1,2 where none is named.")]
PlotPreset = Annotated[str, typer.Option("--preset", help="Budget: smoke, quick, long or paper.")]
PlotParameters = Annotated[str, typer.Option("--parameters", help="Parameter set: default, literal or tuned.")]
PlotAttributes = Annotated[
    str, typer.Option("--attributes", help="Only these attributes of a table, separated by commas.")
]
PlotRows = Annotated[int | None, typer.Option("--rows", help="Rows to show; as many as fit by default.", min=1)]
PlotDevice = Annotated[str, typer.Option("--device", help="Where to train: auto, cpu or cuda.")]
PlotOutput = Annotated[Path, typer.Option("--output", help="Folder for the pictures.", metavar="DIR")]
PlotFormats = Annotated[str, typer.Option("--formats", help="File formats: png, pdf, svg; all where none is named.")]


@plot_app.command("ratios")
def plot_ratios(
    datasets: PlotDatasets,
    methods: Annotated[str, typer.Option(help="Methods, separated by commas; all that have rows by default.")] = "",
    ratios: Annotated[str, typer.Option(help="Missing ratios, by default all that have rows.")] = "",
    mechanism: PlotMechanism = "mcar",
    metric: Annotated[str, typer.Option(help="Metrics, separated by commas; by default one a kind of attribute.")] = "",
    seeds: PlotSeeds = "",
    preset: Annotated[str, typer.Option(help="smoke, quick, long or paper; by default the fullest complete one.")] = "",
    parameters: PlotParameters = "default",
    output: PlotOutput = RENDERED,
    formats: PlotFormats = "",
    store: StoreFolder = DEFAULT_STORE,
    shipped: Annotated[bool, typer.Option("--shipped", help="Use the rows that ship with the suite.")] = False,
    plugins: Plugins = None,
) -> None:
    """Draw error over missing ratio, with error bars, from stored rows."""
    from bench.cli import plotter

    request = plotter.PlotRequest(
        datasets=tuple(datasets),
        methods=_names(methods),
        mechanism=mechanism,
        ratios=_numbers(ratios, float, "--ratios"),
        metrics=_names(metric),
        seeds=_numbers(seeds, int, "--seeds"),
        preset=preset,
        parameter_set=parameters,
        output=output,
        formats=_names(formats),
        store=store,
        shipped=shipped,
        plugins=tuple(plugins or ()),
    )
    plotter.plot_ratios(request, _console())


@plot_app.command("imputations")
def plot_imputations(
    datasets: PlotDatasets,
    methods: PlotMethods = "vsae,mean_mode",
    mechanism: PlotMechanism = "mcar",
    ratio: PlotRatio = 0.5,
    seed: PlotSeed = 0,
    preset: PlotPreset = "quick",
    parameters: PlotParameters = "default",
    attributes: PlotAttributes = "",
    rows: PlotRows = None,
    output: PlotOutput = RENDERED,
    formats: PlotFormats = "",
    store: StoreFolder = DEFAULT_STORE,
    plugins: Plugins = None,
    device: PlotDevice = "auto",
) -> None:
    """Draw test rows: the truth, what was observed, and what each method imputed; trains what is not kept yet."""
    from bench.cli import plotter

    request = plotter.PlotRequest(
        datasets=tuple(datasets),
        methods=_names(methods),
        mechanism=mechanism,
        ratios=(ratio,),
        seeds=(seed,),
        preset=preset,
        parameter_set=parameters,
        attributes=_names(attributes),
        rows=rows,
        output=output,
        formats=_names(formats),
        store=store,
        plugins=tuple(plugins or ()),
        device=device,
    )
    plotter.plot_imputations(request, _console())


@plot_app.command("samples")
def plot_samples(
    datasets: PlotDatasets,
    methods: PlotMethods = "vsae",
    mechanism: PlotMechanism = "mcar",
    ratio: PlotRatio = 0.5,
    seed: PlotSeed = 0,
    preset: PlotPreset = "quick",
    parameters: PlotParameters = "default",
    attributes: PlotAttributes = "",
    rows: PlotRows = None,
    draws: Annotated[int | None, typer.Option(help="Draws of a row; as many as fit by default.", min=1)] = None,
    output: PlotOutput = RENDERED,
    formats: PlotFormats = "",
    store: StoreFolder = DEFAULT_STORE,
    plugins: Plugins = None,
    device: PlotDevice = "auto",
) -> None:
    """Draw several imputations of the same rows, one picture a method; trains what is not kept yet."""
    from bench.cli import plotter

    request = plotter.PlotRequest(
        datasets=tuple(datasets),
        methods=_names(methods),
        mechanism=mechanism,
        ratios=(ratio,),
        seeds=(seed,),
        preset=preset,
        parameter_set=parameters,
        attributes=_names(attributes),
        rows=rows,
        draws=draws,
        output=output,
        formats=_names(formats),
        store=store,
        plugins=tuple(plugins or ()),
        device=device,
    )
    plotter.plot_samples(request, _console())


@plot_app.command("generations")
def plot_generations(
    datasets: PlotDatasets,
    methods: PlotMethods = "vsae",
    mechanism: PlotMechanism = "mcar",
    ratio: PlotRatio = 0.5,
    seed: PlotSeed = 0,
    preset: PlotPreset = "quick",
    parameters: PlotParameters = "default",
    attributes: PlotAttributes = "",
    rows: PlotRows = None,
    output: PlotOutput = RENDERED,
    formats: PlotFormats = "",
    store: StoreFolder = DEFAULT_STORE,
    plugins: Plugins = None,
    device: PlotDevice = "auto",
) -> None:
    """Draw rows made up from the prior, one picture a method; trains what is not kept yet."""
    from bench.cli import plotter

    request = plotter.PlotRequest(
        datasets=tuple(datasets),
        methods=_names(methods),
        mechanism=mechanism,
        ratios=(ratio,),
        seeds=(seed,),
        preset=preset,
        parameter_set=parameters,
        attributes=_names(attributes),
        rows=rows,
        output=output,
        formats=_names(formats),
        store=store,
        plugins=tuple(plugins or ()),
        device=device,
    )
    plotter.plot_generations(request, _console())


@plot_app.command("training")
def plot_training(
    datasets: PlotDatasets,
    methods: PlotMethods = "vsae",
    mechanism: PlotMechanism = "mcar",
    ratio: PlotRatio = 0.5,
    seeds: PlotSeeds = "",
    preset: PlotPreset = "quick",
    parameters: PlotParameters = "default",
    output: PlotOutput = RENDERED,
    formats: PlotFormats = "",
    store: StoreFolder = DEFAULT_STORE,
    plugins: Plugins = None,
    device: PlotDevice = "auto",
) -> None:
    """Draw loss and validation error over the epochs, one picture a method; trains what has no rows with curves."""
    from bench.cli import plotter

    request = plotter.PlotRequest(
        datasets=tuple(datasets),
        methods=_names(methods),
        mechanism=mechanism,
        ratios=(ratio,),
        seeds=_numbers(seeds, int, "--seeds"),
        preset=preset,
        parameter_set=parameters,
        output=output,
        formats=_names(formats),
        store=store,
        plugins=tuple(plugins or ()),
        device=device,
    )
    plotter.plot_training(request, _console())


@app.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Plug-ins to check; without one, all of the --plugins folders.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check everything that is registered.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Also try methods on a table of 10,000 columns.")] = False,
    plugins: Plugins = None,
) -> None:
    """Check that plug-ins keep their contract: no leaks, the same values under a seed, awkward tables survived."""
    from bench.conformance.suite import check_named

    if not check_named(names or (), everything, plugins or (), large):
        raise typer.Exit(SOME_FAILED)


@app.command()
def env() -> None:
    """Show hardware and versions, as stored with every row."""
    import json

    from bench.run.machine import environment

    print(json.dumps(environment(), indent=2))


def _console() -> Console:
    from rich.console import Console

    return Console()


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str, kind: Any, option: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in _names(text))
    except ValueError:
        raise BenchError(f"{option} takes numbers separated by commas, not '{text}'") from None


if __name__ == "__main__":
    main()
