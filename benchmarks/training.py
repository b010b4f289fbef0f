"""VSAE's training steps: the banked engine beside a plain PyTorch loop over the same networks.

``python -m benchmarks.training`` times whole training steps after the warm phase (batches, noise, losses, gradients,
clipping, Adam) of one replica and of a stack, and divides by the replicas; the plain loop of ``plain_vsae.py`` trains
one seed. Both start from the same weights; a case whose losses differ has failed, however fast it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.experiment.presets import HIGHEST, PRECISIONS
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

#: Ratios to reach on a CPU and on a GPU, per replica of a stack; alone it is to be no slower than the plain loop.
TARGETS = {"yeast": (3.0, 20.0), "mushroom": (3.0, None), "mnist_mnist": (1.3, None)}
#: Steps a timing takes.
STEPS = {"yeast": 40, "mushroom": 30, "mnist_mnist": 4}
STACK = 3
#: How far the mean losses of a few steps from the same weights may be apart.
LOSS_STEPS, LOSS_TOLERANCE = 3, 5e-3


@dataclass(frozen=True)
class Case:
    """A data set under a preset's batch and samples."""

    dataset: str
    preset: str
    steps: int
    small: bool = False
    #: Whether steps, or gradients, are recorded and replayed.
    replayed: bool = True


def losses_agree(case: Case) -> tuple[float, float]:
    """Return the mean loss of a few steps from the same weights with the same noise on a CPU: ours, the plain one."""
    from dataclasses import replace

    from benchmarks import plain_vsae
    from benchmarks.stacks import Stack, Views, steady_budget, table_of

    table = table_of(case.dataset, case.small)
    budget = steady_budget(case.preset, table.schema.kinds, LOSS_STEPS)
    # An epoch's noise has to fit into one block.
    budget = replace(budget, batch=min(budget.batch, 64), target_draws=min(budget.target_draws, 10))
    stack = Stack.of(Views.of(table, 1), budget)
    plain = plain_vsae.of_replica(stack, 0, budget)
    shapes = stack.trainer(budget).noise_shapes
    theirs = plain_vsae.plain_losses(plain, 0, 1, shapes, LOSS_STEPS)
    return stack.train(budget).loss[0][0], theirs[0]


def measure(case: Case, replicas: int, rounds: int, device: str) -> Line:
    """Time one case; the ratio is the plain loop's time over ours, per replica and step."""
    import torch

    from benchmarks import plain_vsae
    from benchmarks.stacks import Stack, Views, steady_budget, table_of

    table = table_of(case.dataset, case.small)
    budget = steady_budget(case.preset, table.schema.kinds, case.steps)
    stack = Stack.of(Views.of(table, replicas), budget, device)
    plain = plain_vsae.of_replica(stack, 0, budget)
    steps = stack.take_steps(budget, case.replayed)
    seconds = alternate(
        {"ours": lambda: stack.take_steps(budget, case.replayed), "plain": lambda: plain.run(steps)}, rounds, device
    )
    took = medians(seconds)
    ratio = replicas * median_ratio(seconds["plain"], seconds["ours"])
    ours, theirs = losses_agree(case)
    apart = abs(ours - theirs) / max(1.0, abs(theirs))
    cpu, gpu = TARGETS[case.dataset]
    goal = 1.0 if replicas == 1 else cpu if device == "cpu" else gpu
    judged = goal is not None
    return Line(
        f"{case.dataset}, {case.preset}, {replicas} replica{'s' if replicas > 1 else ''}, {device}",
        ratio,
        1000 * took["ours"] / steps / replicas,
        1000 * took["plain"] / steps,
        "ms",
        f">= {goal:g}" if judged else "",
        None if goal is None else ratio >= goal and apart <= LOSS_TOLERANCE,
        {
            "precision": torch.get_float32_matmul_precision(),
            "batch": plain.batch,
            "samples": budget.target_draws,
            "losses apart": apart,
            "spread": max(spread(timings) for timings in seconds.values()),
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    made = parser("training", __doc__)
    add_device(made)
    made.add_argument("--cases", default=",".join(TARGETS), help=f"comma-separated: {', '.join(TARGETS)}")
    made.add_argument("--presets", default="paper,quick", help="whose batch and samples: paper, quick")
    made.add_argument("--replicas", default=f"1,{STACK}", help=f"sizes of our stack (default 1,{STACK})")
    made.add_argument("--precision", choices=PRECISIONS, default=HIGHEST, help="of the products of both loops")
    made.add_argument("--eager", action="store_true", help="record and replay nothing")
    options = parsed(made, arguments)
    device = chosen_device(options.device)
    import torch

    torch.set_float32_matmul_precision(options.precision)
    lines = []
    for name in options.cases.split(","):
        for preset in options.presets.split(","):
            case = Case(name, preset, 2 if options.small else STEPS[name], options.small, not options.eager)
            for replicas in map(int, options.replicas.split(",")):
                lines.append(measure(case, replicas, options.rounds, device))
    return finish(Report("training", "plain / ours", lines, ["times are per replica and step"]), options)


if __name__ == "__main__":
    raise SystemExit(main())
