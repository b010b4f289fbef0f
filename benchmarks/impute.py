"""Importance-sampling imputation with 1000 draws per row: the banked engine beside a plain loop over draws.

``python -m benchmarks.impute`` imputes test rows of White wine and MNIST+MNIST with untrained VSAEs of equal weights.
The two must agree as well as our own result agrees with itself under other noise. The peak memory of a process that
imputes and does nothing else must not grow with the draws, and with the rows only as the result does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.common import (
    Line,
    Report,
    add_device,
    alternate,
    chosen_device,
    finish,
    isolated,
    median_ratio,
    medians,
    parsed,
    parser,
    spread,
)

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.stacks import Stack

#: Rows imputed at a time for each data set.
ROWS = {"whitewine": 980, "mnist_mnist": 64}
DRAWS, SMALL_ROWS, SMALL_DRAWS = 1000, 40, 20
#: Ratios to reach per replica of a stack of three, on a CPU and on a GPU.
TARGET_CPU, TARGET_GPU = 3.0, 10.0
#: How much further than from itself our result may be from the plain loop's.
AGREEMENT = 1.5
#: Peak memory with ten times the draws may be this much larger; with more rows, by so many copies of the result more.
MORE_DRAWS, RESULT_COPIES = 1.1, 6


def columns(stack: Stack, rows: int, draws: int) -> Tensor:
    """Return our imputation of the first replica with side-by-side columns, [b, width]; each call has other noise."""
    import torch

    imputed, _ = stack.impute(rows, draws)
    parts = [imputed.numeric, imputed.categorical.flatten(-2), *(block.flatten(-2) for block in imputed.blocks)]
    return torch.cat(parts, dim=-1)[0]


def disagreement(stack: Stack, rows: int, draws: int) -> float:
    """Return how far the plain loop's imputation is from ours, in units of how far ours is from itself."""
    import torch

    from benchmarks import plain_vsae

    first, second = columns(stack, rows, draws), columns(stack, rows, draws)
    model, data = plain_vsae.first_test_rows(stack, rows)
    order = [column for attribute in model.attributes for column in attribute.columns]
    theirs = torch.cat(model.impute(data, draws), dim=1)
    hidden = (~data.observed).repeat_interleave(torch.tensor([a.width for a in model.attributes]).to(stack.device), 1)
    noise = (first - second)[:, order][hidden].square().mean().sqrt()
    return float((first[:, order] - theirs)[hidden].square().mean().sqrt() / noise)


def measure(dataset: str, replicas: int, rows: int, draws: int, small: bool, rounds: int, device: str) -> Line:
    """Time one case; the ratio is the plain loop's time over ours, per replica."""
    from benchmarks import plain_vsae
    from benchmarks.stacks import Stack, Views, steady_budget, table_of

    table = table_of(dataset, small)
    stack = Stack.of(Views.of(table, replicas), steady_budget("paper", table.schema.kinds, 1), device)
    model, data = plain_vsae.first_test_rows(stack, rows)
    seconds = alternate(
        {"ours": partial(stack.impute, rows, draws), "plain": partial(model.impute, data, draws)}, rounds, device
    )
    took = medians(seconds)
    ratio = replicas * median_ratio(seconds["plain"], seconds["ours"])
    apart = disagreement(stack, rows, draws)
    target = 1.0 if replicas == 1 else TARGET_CPU if device == "cpu" else TARGET_GPU
    return Line(
        f"{dataset}, {replicas} replica{'s' if replicas > 1 else ''}, {device}",
        ratio,
        took["ours"] / replicas,
        took["plain"],
        target=f">= {target:g}",
        reached=ratio >= target and apart <= AGREEMENT,
        notes={
            "rows": rows,
            "draws": draws,
            "apart, in own noise": apart,
            "spread": max(spread(timings) for timings in seconds.values()),
        },
    )


def impute_once(dataset: str, small: bool, rows: int, draws: int) -> int:
    """Train for one step and impute rows as the runner does; return the bytes of the result."""
    import numpy as np

    from bench.api import Context, Incomplete
    from bench.plugins.registry import Registry, load
    from benchmarks.stacks import Views, steady_budget, table_of

    chosen_device("cpu")
    table = table_of(dataset, small)
    views = Views.of(table, 1)
    budget = replace(steady_budget("paper", table.schema.kinds, 1), draws=draws, target_draws=1, validation_draws=1)
    method = load(Registry.scan().method("vsae"))(None, Context(budget))
    few, taken = slice(None, 50), slice(None, rows)
    seen = views.validation.observed[:, few]
    folds = np.where(seen, 0, -1)
    method.fit_many(views.train, Incomplete(table, views.validation._rows[:, few], seen, folds), [0])
    test = Incomplete(table, views.test._rows[:, taken], views.test.observed[:, taken])
    (values,) = method.impute_many(test, draws)
    return int(values.scalars.nbytes + sum(block.nbytes for block in values.blocks.values()))


def memory_lines(dataset: str, small: bool, rows: int, draws: int) -> list[Line]:
    """Return how the peak memory grows with ten times the draws, and with four times the rows."""

    def peak(rows: int, draws: int) -> tuple[float, float]:
        result, mib = isolated("benchmarks.impute:impute_once", dataset=dataset, small=small, rows=rows, draws=draws)
        return mib, result / 2**20

    base, result = peak(rows, draws)
    more_draws, _ = peak(rows, 10 * draws)
    more_rows, larger = peak(4 * rows, draws)
    limit = base + RESULT_COPIES * (larger - result) + 0.05 * base
    return [
        Line(
            f"{dataset}, peak memory, {draws} to {10 * draws} draws",
            base / more_draws,
            more_draws,
            base,
            "MiB",
            f"<= {MORE_DRAWS:g} times",
            more_draws <= MORE_DRAWS * base,
            {"rows": rows},
        ),
        Line(
            f"{dataset}, peak memory, {rows} to {4 * rows} rows",
            base / more_rows,
            more_rows,
            base,
            "MiB",
            f"<= {limit:.0f} MiB",
            more_rows <= limit,
            {"draws": draws, "result MiB": larger},
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    made = parser("impute", __doc__)
    add_device(made)
    made.add_argument("--cases", default=",".join(ROWS), help=f"comma-separated: {', '.join(ROWS)}")
    made.add_argument("--replicas", default="1,3", help="sizes of our stack (default 1,3)")
    made.add_argument("--draws", type=int, default=DRAWS, help=f"samples per row (default {DRAWS})")
    options = parsed(made, arguments)
    device = chosen_device(options.device)
    draws = SMALL_DRAWS if options.small else options.draws
    lines: list[Line] = []
    for name in options.cases.split(","):
        rows = SMALL_ROWS if options.small else ROWS[name]
        for replicas in map(int, options.replicas.split(",")):
            lines.append(measure(name, replicas, rows, draws, options.small, options.rounds, device))
    for name in options.cases.split(","):
        rows = 20 if options.small else 1024 if name == "mnist_mnist" else 240
        lines += memory_lines(name, options.small, rows, 10 if options.small else 20)
    return finish(Report("impute", "plain / ours", lines, ["times are per replica"]), options)


if __name__ == "__main__":
    raise SystemExit(main())
