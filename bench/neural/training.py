"""The training loop: a stack of replicas, batches gathered on the device, the best state kept per replica.

What one replica computes never depends on the stack: its parameters, batches and noise come from its own generators,
in shapes that do not know how many replicas there are.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.view import TensorView
from bench.errors import BenchError, Stopped
from bench.neural.blocks import Encoded, Encoder, Imputed, Layout
from bench.neural.layers import chosen_at_random
from bench.neural.replay import CudaGraphs, Recorder, Replays, Tensors, Traces
from bench.plugins.contracts import Budget, Context
from bench.seeds import seed_of

#: Floats of training noise one replica may hold at a time (64 MB).
NOISE_FLOATS = 16 * 2**20
#: Epochs shorter than this do not each write a checkpoint.
CHECKPOINT_SECONDS = 1.0
#: Share of the time that writing checkpoints may take: large ones are written less often.
CHECKPOINT_SHARE = 0.02
#: Name of the noise that chooses what is hidden from the encoder.
DROPOUT = "input dropout"
#: Steps that a GPU records together: each replay is a launch.
STEPS_A_REPLAY = 8
#: Steps a training must have left for its gradients to be recorded on a CPU, which takes a second.
STEPS_WORTH_RECORDING = 400
#: Set to "off", this environment variable has nothing recorded: every step is done as it is.
REPLAY_VARIABLE = "VSAE_BENCH_REPLAY"


@dataclass(frozen=True)
class Phase:
    """One optimiser of a training step, with the parameters it moves; its turn comes in every ``every``-th step.

    ``groups`` are parameter groups as ``torch.optim.Adam`` takes them; one without ``lr`` has the training's own.
    """

    name: str
    groups: Sequence[Mapping[str, Any]]
    every: int = 1


class Network(nn.Module):
    """What a neural method defines: a stack of networks with a loss to train and a way to impute."""

    layout: Layout
    replicas: int
    #: Whether a loss is a function of its arguments and the network's tensors alone: no state in Python, no branch on a
    #: value, no random numbers of its own. Only then are steps recorded and replayed. Not inherited.
    replayable: bool = False
    #: Share of the observed entries that training hides from the encoder, not from the loss; or one a replica, [R, 1].
    input_dropout: float | Tensor = 0.0

    def noise_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of standard normal noise one replica needs for a training step on ``rows`` rows."""
        return {}

    def losses(self, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool) -> Tensor:
        """Return each replica's loss, [R], averaged over the batch's rows.

        ``progress`` is the share of the warm phase that is over (1 after it), a tensor of no dimensions where steps are
        recorded and replayed: compute with it, and do not ask for its value. ``warm`` says whether the phase lasts.
        """
        raise TypeError(f"{type(self).__name__} does not define losses")

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of a training step, in order: by default one, of all parameters, that minimises ``losses``.

        An adversarial network has several. The first has its turn in every step; its loss is the one recorded.
        """
        return (Phase("all", [{"params": [p for p in self.parameters() if p.requires_grad]}]),)

    def phase_losses(
        self, phase: str, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool
    ) -> Tensor:
        """Return each replica's loss in a phase, [R]; only the parameters of that phase follow its gradient."""
        return self.losses(batch, noise, progress, warm)

    def training_budget(self, budget: Budget) -> Budget:
        """Return the budget of the training loop, given the preset's; it differs where a step takes several batches."""
        return budget

    def impute(
        self, batch: Encoded, draws: int, generators: Sequence[torch.Generator]
    ) -> tuple[Imputed, dict[str, Tensor]]:
        """Return the imputation of a batch and per-row notes, [R, b] or [R, b, latent blocks]."""
        raise TypeError(f"{type(self).__name__} does not define impute")


@dataclass
class History:
    """What a training leaves behind, per replica where a list holds lists."""

    steps: int = 0
    epochs: int = 0
    best_epoch: list[int] = field(default_factory=list)
    best_error: list[float] = field(default_factory=list)
    loss: list[list[float]] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)
    validation_epochs: list[int] = field(default_factory=list)
    seconds: float = 0.0


def replica_generators(stream: str, seeds: Sequence[int], device: str = "cpu") -> list[torch.Generator]:
    """Return one generator per replica for a named stream (initialisation, training, evaluation)."""
    generators = []
    for seed in seeds:
        generator = torch.Generator(device=device)
        generator.manual_seed(seed_of(stream, seed))
        generators.append(generator)
    return generators


def replica_noise(shape: tuple[int, ...], generators: Sequence[torch.Generator], device: str) -> Tensor:
    """Return standard normal noise [R, *shape], each replica's from its own generator."""
    noise = torch.empty(len(generators), *shape, device=device)
    for replica, generator in enumerate(generators):
        noise[replica].normal_(generator=generator)
    return noise


@dataclass(frozen=True)
class Schedule:
    """The length of a training in steps and epochs."""

    batch: int
    steps_per_epoch: int
    epochs: int
    warm_steps: int
    evaluate_every: int

    @classmethod
    def of(cls, budget: Budget, rows: int) -> Schedule:
        """Work out the schedule for ``rows`` training rows."""
        batch = min(budget.batch, rows)
        per_epoch = max(1, rows // batch)
        epochs = budget.epochs
        if budget.steps is not None:
            # An epoch longer than the whole budget is cut to it.
            per_epoch = min(per_epoch, budget.steps)
            within = max(1, budget.steps // per_epoch)
            epochs = within if epochs is None else min(epochs, within)
        if epochs is None:
            raise BenchError("a budget needs steps or epochs")
        return cls(
            batch,
            per_epoch,
            epochs,
            warm_steps=round(budget.warm_fraction * epochs * per_epoch),
            evaluate_every=max(1, math.ceil(epochs / budget.evaluations)),
        )


@dataclass(frozen=True)
class Turn:
    """What Python decides about a training step: whether the warm phase lasts, and which phases have their turn."""

    warm: bool
    phases: tuple[int, ...]


class Trainer:
    """Trains a stack of replicas and leaves each at its best validated state."""

    def __init__(
        self,
        network: Network,
        train: TensorView,
        encoder: Encoder,
        validate: Callable[[], Tensor],
        seeds: Sequence[int],
        context: Context,
        clip_norm: float | None,
        learning_rate: float | Tensor,
    ) -> None:
        """Set up the optimisers; ``validate`` returns each replica's validation error, [R].

        The learning rate is a number or one a replica, [R, 1].
        """
        self.network, self.train, self.encoder, self.validate = network, train, encoder, validate
        self.context, self.clip_norm = context, clip_norm
        self.schedule = Schedule.of(network.training_budget(context.budget), train.rows)
        self.generators = replica_generators("training", seeds)
        self.noise_generators = replica_generators("training noise", seeds, context.device)
        self.drops = not isinstance(network.input_dropout, float) or network.input_dropout > 0
        self.phases = network.phases()
        self.optimisers = [stacked_adam(phase.groups, learning_rate) for phase in self.phases]
        self.rates = [replica_rates(phase.groups, learning_rate) for phase in self.phases]
        #: Whole steps are recorded on a GPU, and on a CPU the gradients of each phase.
        steps, gradients = recorders(network, context.device)
        self.step_replays = Replays(steps, partial(trained_tensors, network, self.optimisers))
        self.gradient_replays = Replays(gradients, partial(trained_tensors, network))
        #: Which steps have their gradients recorded, decided when the first of a kind comes.
        self._recorded: dict[Turn, bool] = {}
        #: Which parameters have a gradient, where gradients are recorded.
        self._with_gradient: dict[Hashable, list[nn.Parameter]] = {}
        self.history = History()
        self.best = [tensor.clone() for tensor in trained_tensors(network)]
        replicas = train.replicas
        self.best_error = torch.full((replicas,), math.inf, device=context.device)
        self.best_epoch = torch.zeros(replicas, dtype=torch.int64, device=context.device)
        self._losses: list[Tensor] = []
        self._validation: list[Tensor] = []
        self._next_step = 0
        self._epoch = 0

    def run(self) -> History:
        """Train to the end of the schedule, from the checkpoint if there is one; raises Stopped at an epoch's end."""
        self._load()
        began = time.perf_counter() - self.history.seconds
        saved_at, pause = time.perf_counter(), CHECKPOINT_SECONDS
        total = self.schedule.epochs
        while self._epoch < total:
            self._run_epoch()
            self._epoch += 1
            if self._epoch % self.schedule.evaluate_every == 0 or self._epoch == total:
                self._keep_best()
            now = time.perf_counter()
            self.history.seconds = now - began
            self.context.progress(self._epoch, total, "training")
            try:
                self.context.stop()
            except Stopped:
                self._save()
                raise
            if now - saved_at >= pause or self._epoch == total:
                self._save()
                saved_at = time.perf_counter()
                pause = max(CHECKPOINT_SECONDS, (saved_at - now) / CHECKPOINT_SHARE)
        self._restore_best()
        return self._finish()

    def _run_epoch(self) -> None:
        schedule, train, device = self.schedule, self.train, self.context.device
        permutations = torch.stack([torch.randperm(train.rows, generator=g) for g in self.generators]).to(device)
        shapes = self.network.noise_shapes(schedule.batch)
        if self.drops:
            shapes = {**shapes, DROPOUT: (schedule.batch, self.network.layout.attributes)}
        per_step = sum(math.prod(shape) for shape in shapes.values())
        block = max(1, min(schedule.steps_per_epoch, NOISE_FLOATS // max(1, per_step)))
        losses = torch.zeros(train.replicas, device=device)
        for first in range(0, schedule.steps_per_epoch, block):
            steps = min(block, schedule.steps_per_epoch - first)
            noise = replica_noise((steps, per_step), self.noise_generators, device)
            rows = permutations[:, first * schedule.batch : (first + steps) * schedule.batch]
            self._run_steps(losses, rows.unflatten(1, (steps, schedule.batch)), noise, shapes)
        self._losses.append(losses / schedule.steps_per_epoch)

    def _run_steps(self, losses: Tensor, index: Tensor, noise: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Take a step for each batch of rows ``index`` [R, steps, b], and add its losses to ``losses`` [R].

        ``noise`` is [R, steps, floats]; ``shapes`` says how that of a step is shared out.
        """
        if not self.step_replays.recording:
            for step in range(index.shape[1]):
                number, rows, own = self._next_step, index[:, step], noise[:, step]
                turn, progress = self._turn(number), self._progress(number)
                if self._worth_recording(number, turn):
                    losses += self._replayed_step(rows, own, progress, turn, shapes)
                else:
                    losses += self._step(rows, self._named(own, shapes), progress, turn)
                self._next_step += 1
            return
        for rows, own in zip(index.split(STEPS_A_REPLAY, dim=1), noise.split(STEPS_A_REPLAY, dim=1), strict=True):
            first, count = self._next_step, rows.shape[1]
            turns = tuple(map(self._turn, range(first, first + count)))
            # As in ``_progress``, on the device; in double precision it multiplies as a number does.
            numbers = torch.arange(first + 1, first + count + 1, dtype=torch.float64, device=index.device)
            shares = (numbers / max(1, self.schedule.warm_steps)).clamp(max=1)

            def steps(inputs: Tensors, turns: tuple[Turn, ...] = turns) -> Tensors:
                rows, own, progress = inputs
                several = [
                    self._step(rows[:, step], self._named(own[:, step], shapes), progress[step], turn)
                    for step, turn in enumerate(turns)
                ]
                return (torch.stack(several).sum(0),)

            losses += self.step_replays.run(turns, (rows, own, shares), steps)[0]
            self._next_step += count

    def _named(self, noise: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Return the parts of a step's noise [R, floats] by name."""
        pieces = noise.split([math.prod(shape) for shape in shapes.values()], dim=1)
        return {name: piece.unflatten(1, shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}

    def _turn(self, step: int) -> Turn:
        phases = tuple(number for number, phase in enumerate(self.phases) if (step + 1) % phase.every == 0)
        return Turn(step < self.schedule.warm_steps, phases)

    def _progress(self, step: int) -> float:
        """Return the share of the warm phase that is over after a step."""
        return min(1.0, (step + 1) / self.schedule.warm_steps) if self.schedule.warm_steps else 1.0

    def _worth_recording(self, step: int, turn: Turn) -> bool:
        """Return whether enough steps are left, when the first of its kind comes, for recording gradients to pay."""
        if not self.gradient_replays.recording:
            return False
        schedule = self.schedule
        last = schedule.warm_steps if turn.warm else schedule.epochs * schedule.steps_per_epoch
        return self._recorded.setdefault(turn, last - step >= STEPS_WORTH_RECORDING)

    def _step(self, index: Tensor, noise: Mapping[str, Tensor], progress: float | Tensor, turn: Turn) -> Tensor:
        """Take a step on the rows ``index`` [R, b] and return the loss of the first phase, [R]."""
        batch = self._batch(index, noise)
        losses = []
        for number in turn.phases:
            losses.append(self._set_gradients(number, batch, noise, progress, turn.warm))
            step_at_own_rates(self.optimisers[number], self.rates[number])
        return losses[0]

    def _replayed_step(
        self, index: Tensor, noise: Tensor, progress: float, turn: Turn, shapes: Mapping[str, tuple[int, ...]]
    ) -> Tensor:
        """Take the same step with recorded gradients; ``noise`` is [R, floats]."""
        losses = []
        # In double precision it multiplies as a number does.
        inputs = index, noise, torch.tensor(progress, dtype=torch.float64)
        for number in turn.phases:
            # A view of contiguous noise is recorded as a view, which other noise may not have.
            name = number, turn.warm, noise.is_contiguous()

            def gradients(inputs: Tensors, number: int = number, name: Hashable = name) -> Tensors:
                index, own, progress = inputs
                noise = self._named(own, shapes)
                loss = self._set_gradients(number, self._batch(index, noise), noise, progress, turn.warm)
                self._with_gradient[name] = [p for p in self._moved(number) if p.grad is not None]
                return (loss, *(p.grad for p in self._with_gradient[name] if p.grad is not None))

            loss, *found = self.gradient_replays.run(name, inputs, gradients)
            for parameter, gradient in zip(self._with_gradient[name], found, strict=True):
                parameter.grad = gradient
            step_at_own_rates(self.optimisers[number], self.rates[number])
            losses.append(loss)
        return losses[0]

    def _batch(self, index: Tensor, noise: Mapping[str, Tensor]) -> Encoded:
        """Return the encoded rows ``index`` [R, b], some entries hidden from the encoder where that is asked for."""
        batch = self.encoder.encode(self.train.batch(index))
        if not self.drops:
            return batch
        return batch.without(chosen_at_random(noise[DROPOUT], self.network.input_dropout), self.network.layout)

    def _moved(self, number: int) -> list[nn.Parameter]:
        """Return the parameters a phase moves."""
        return [parameter for group in self.optimisers[number].param_groups for parameter in group["params"]]

    def _set_gradients(
        self, number: int, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool
    ) -> Tensor:
        """Set the clipped gradients of a phase's parameters and return its loss, [R]."""
        moved = self._moved(number)
        losses = self.network.phase_losses(self.phases[number].name, batch, noise, progress, warm)
        for parameter in moved:
            parameter.grad = None
        losses.sum().backward(inputs=moved)
        if self.clip_norm is not None:
            clip_per_replica(moved, self.clip_norm)
        return losses.detach()

    @torch.no_grad()
    def _keep_best(self) -> None:
        error = self.validate()
        improved = error < self.best_error
        self.best_error = torch.where(improved, error, self.best_error)
        self.best_epoch = torch.where(improved, self._epoch, self.best_epoch)
        for best, current in zip(self.best, trained_tensors(self.network), strict=True):
            best.copy_(torch.where(improved.view(-1, *(1,) * (best.dim() - 1)), current, best))
        self._validation.append(error)
        self.history.validation_epochs.append(self._epoch)

    @torch.no_grad()
    def _restore_best(self) -> None:
        for best, current in zip(self.best, trained_tensors(self.network), strict=True):
            current.copy_(best)

    def _finish(self) -> History:
        history = self.history
        history.steps, history.epochs = self._next_step, self._epoch
        history.best_epoch = self.best_epoch.tolist()
        history.best_error = self.best_error.tolist()
        history.loss = torch.stack(self._losses, dim=1).tolist()
        history.validation = torch.stack(self._validation, dim=1).tolist()
        return history

    def _save(self) -> None:
        path = self.context.checkpoint
        if path is None:
            return
        state: dict[str, Any] = {
            "epoch": self._epoch,
            "step": self._next_step,
            "seconds": self.history.seconds,
            "state": trained_tensors(self.network),
            "best": self.best,
            "best_error": self.best_error,
            "best_epoch": self.best_epoch,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "losses": self._losses,
            "validation": self._validation,
            "validation_epochs": self.history.validation_epochs,
            "generators": [g.get_state() for g in self.generators],
            "noise_generators": [g.get_state() for g in self.noise_generators],
        }
        save_atomically(state, path)

    @torch.no_grad()
    def _load(self) -> None:
        path = self.context.checkpoint
        if path is None or not path.exists():
            return
        state = torch.load(path, map_location=self.context.device, weights_only=True)
        for current, saved in zip(trained_tensors(self.network), state["state"], strict=True):
            current.copy_(saved)
        for best, saved in zip(self.best, state["best"], strict=True):
            best.copy_(saved)
        self.best_error, self.best_epoch = state["best_error"], state["best_epoch"]
        for optimiser, optimiser_state in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(optimiser_state)
        self._losses, self._validation = state["losses"], state["validation"]
        self.history.validation_epochs = state["validation_epochs"]
        self.history.seconds = state["seconds"]
        self._epoch, self._next_step = state["epoch"], state["step"]
        for mine, saved in ((self.generators, "generators"), (self.noise_generators, "noise_generators")):
            for generator, generator_state in zip(mine, state[saved], strict=True):
                generator.set_state(generator_state.cpu())


def trained_tensors(network: Network, optimisers: Sequence[torch.optim.Optimizer] = ()) -> list[Tensor]:
    """Return parameters and running statistics, each with the replicas as its leading dimension.

    With ``optimisers`` also what these remember: all that a step changes.
    """
    remembered = [own for optimiser in optimisers for own in optimiser.state.values()]
    learned = [parameter.detach() for parameter in network.parameters() if parameter.requires_grad]
    return [*learned, *network.buffers(), *(value for own in remembered for value in own.values())]


def recorders(network: Network, device: str) -> tuple[Recorder | None, Recorder | None]:
    """Return what records whole steps of a network, and what records gradients; None where nothing is gained.

    On a CPU the operations on images and features differ from batch to batch (``PackedRows``), and are long.
    """
    kind = torch.device(device).type
    if os.environ.get(REPLAY_VARIABLE, "").lower() == "off":
        return None, None
    if not vars(type(network)).get("replayable", False) or kind not in ("cpu", "cuda"):
        return None, None
    if kind == "cuda":
        return CudaGraphs(), None
    return None, None if network.layout.block_groups else Traces()


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill leaves either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)


def stacked_adam(groups: Sequence[Mapping[str, Any]], learning_rate: float | Tensor) -> torch.optim.Adam:
    """Return Adam for parameter groups whose step of one replica is the same, to the bit, whatever the stack.

    On a CPU, fused Adam rounds what fills whole vector registers (16 floats at most) otherwise than what is left over:
    it is used where no replica leaves anything over.
    """
    rated = [{**group, "lr": largest_rate(group.get("lr", learning_rate))} for group in groups]
    split = [
        {**group, "params": members, "fused": fused, "foreach": False, "capturable": members[0].is_cuda}
        for group in rated
        for fused in (True, False)
        if (members := [p for p in group["params"] if (p.is_cuda or p[0].numel() % 16 == 0) is fused])
    ]
    return torch.optim.Adam(split, lr=largest_rate(learning_rate))


def largest_rate(learning_rate: float | Tensor) -> float:
    """Return a learning rate, or the largest where there is one a replica."""
    return float(learning_rate.max()) if isinstance(learning_rate, Tensor) else learning_rate


def replica_rates(
    groups: Sequence[Mapping[str, Any]], learning_rate: float | Tensor
) -> list[tuple[Sequence[nn.Parameter], Tensor]]:
    """Return the parameters whose replicas learn at rates of their own, with each rate's share of the largest, [R]."""
    rates = [(group["params"], group.get("lr", learning_rate)) for group in groups]
    return [(members, (rate / rate.max()).flatten()) for members, rate in rates if isinstance(rate, Tensor)]


@torch.no_grad()
def step_at_own_rates(optimiser: torch.optim.Optimizer, rates: Sequence[tuple[Sequence[nn.Parameter], Tensor]]) -> None:
    """Take a step of Adam at the largest rate and shrink it to each replica's own: a step is linear in its rate."""
    before = [(p, p.detach().clone(), share) for members, share in rates for p in members]
    optimiser.step()
    for parameter, old, share in before:
        parameter.copy_(torch.lerp(old, parameter, share.view(-1, *(1,) * (old.dim() - 1))))


@torch.no_grad()
def clip_per_replica(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale each replica's gradient down to the norm ``largest``, independently of the others."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients], dim=1).sum(1)
    factor = (largest / (squares.sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *(1,) * (gradient.dim() - 1)))
