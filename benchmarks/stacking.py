"""What a replica costs in a stack of 1, 3, 9 and 27, relative to what it costs alone.

``python -m benchmarks.stacking`` times VSAE's training steps after the warm phase. On a CPU the cost per replica must
not rise; on a GPU a step of three replicas may cost 1.15 times that of one, and a step of nine twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.common import (
    Line,
    Report,
    add_device,
    alternate,
    chosen_device,
    finish,
    median_ratio,
    medians,
    parsed,
    parser,
    spread,
)
from benchmarks.training import STEPS

REPLICAS = (1, 3, 9, 27)
#: What a step of a stack may cost on a GPU, relative to a step of one replica.
GPU_LIMITS = {3: 1.15, 9: 2.0}
#: What a replica may cost on a CPU, relative to one alone; allows for the noise of the clock.
CPU_LIMIT = 1.05


def measure(
    dataset: str, preset: str, sizes: Sequence[int], steps: int, small: bool, rounds: int, device: str
) -> list[Line]:
    """Time stacks of all sizes in alternation; the first size is what the others are compared with."""
    from benchmarks.stacks import Stack, Views, steady_budget, table_of

    table = table_of(dataset, small)
    budget = steady_budget(preset, table.schema.kinds, steps)
    views = Views.of(table, max(sizes))
    stacks = {size: Stack.of(views.first(size), budget, device) for size in sizes}
    tasks = {str(size): partial(stack.take_steps, budget) for size, stack in stacks.items()}
    taken = tasks[str(sizes[0])]()
    seconds = alternate(tasks, rounds, device)
    took, alone = medians(seconds), str(sizes[0])
    lines = []
    for size in sizes:
        step = median_ratio(seconds[str(size)], seconds[alone])
        each = step * sizes[0] / size
        limit = GPU_LIMITS.get(size) if device != "cpu" else CPU_LIMIT
        cost = step if device != "cpu" else each
        judged = limit is not None and size != sizes[0]
        lines.append(
            Line(
                f"{dataset}, {preset}, {size} replicas, {device}",
                each,
                1000 * took[str(size)] / taken / size,
                1000 * took[alone] / taken / sizes[0],
                "ms",
                f"{'step' if device != 'cpu' else 'each'} <= {limit:g}" if judged else "",
                cost <= limit if judged and limit is not None else None,
                {"step": step, "spread": spread(seconds[str(size)])},
            )
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    made = parser("stacking", __doc__)
    add_device(made)
    made.add_argument("--cases", default=",".join(STEPS), help=f"comma-separated: {', '.join(STEPS)}")
    made.add_argument("--preset", default="quick", help="whose batch and samples: paper or quick (default)")
    made.add_argument("--replicas", default=",".join(map(str, REPLICAS)), help="sizes of stacks, smallest first")
    options = parsed(made, arguments)
    device = chosen_device(options.device)
    sizes = [int(size) for size in options.replicas.split(",")]
    lines: list[Line] = []
    for name in options.cases.split(","):
        steps = 2 if options.small else max(2, STEPS[name] // 2)
        lines += measure(name, options.preset, sizes, steps, options.small, options.rounds, device)
    return finish(Report("stacking", "per replica, of one alone", lines), options)


if __name__ == "__main__":
    raise SystemExit(main())
