"""The training loop: a stack of replicas, batches gathered on the device, the best state kept per replica.

What one replica computes never depends on the stack: its parameters, batches and noise come from its own generators,
in shapes that do not know how many replicas there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.view import TensorView
from bench.errors import Stopped
from bench.neural.engine.bank import chosen_at_random
from bench.neural.engine.checkpoint import save_atomically, trained_tensors
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import StepNoise, replica_generators, replica_noise
from bench.neural.engine.optimiser import clip_per_replica, replica_rates, stacked_adam, step_at_own_rates
from bench.neural.engine.probe import dry_run
from bench.neural.engine.replay import Replays, Tensors, recorders
from bench.neural.engine.schedule import History, Schedule
from bench.neural.model import Network, Warmup
from bench.neural.rows import Rows
from bench.plugins.contracts import Context

#: Floats of training noise one replica may hold at a time (64 MB).
NOISE_FLOATS = 16 * 2**20
#: Epochs shorter than this do not each write a checkpoint.
CHECKPOINT_SECONDS = 1.0
#: Share of the time that writing checkpoints may take: large ones are written less often.
CHECKPOINT_SHARE = 0.02
#: Name of the noise that chooses what is hidden from the encoder.
DROPOUT = "input dropout"
#: Steps that a GPU records together: each replay is a launch.
STEPS_PER_REPLAY = 8
#: Steps a training must have left for its gradients to be recorded on a CPU, which takes a second.
STEPS_WORTH_RECORDING = 400


@dataclass(frozen=True)
class StepKind:
    """What Python decides about a training step: whether the warm-up lasts, and which phases have their turn."""

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
        keeps_last: Sequence[bool] | None = None,
    ) -> None:
        """Set up the optimisers; ``validate`` returns each replica's validation error, [R].

        Replicas that ``keeps_last`` names are left in their last state, whatever the error says.

        The learning rate is a number or one per replica, [R, 1].
        """
        self.network, self.train, self.encoder, self.validate = network, train, encoder, validate
        self.context, self.clip_norm = context, clip_norm
        self.schedule = Schedule.of(network.training_budget(context.budget), train.rows)
        self.generators = replica_generators("training", seeds)
        self.noise_generators = replica_generators("training noise", seeds, context.device)
        self.drops = not isinstance(network.input_dropout, float) or network.input_dropout > 0
        first = torch.arange(self.schedule.batch, device=context.device).expand(train.replicas, -1)
        step = dry_run(network, lambda: self._rows(first))
        #: The noise of a step, by name in the order it is laid out.
        self.noise_shapes = step.noise
        if self.drops:
            self.noise_shapes = {**step.noise, DROPOUT: (self.schedule.batch, network.layout.attributes)}
        self.phases = network.phases()
        self.optimisers = [stacked_adam(phase.groups, learning_rate) for phase in self.phases]
        self.rates = [replica_rates(phase.groups, learning_rate) for phase in self.phases]
        #: Whole steps are recorded on a GPU, and on a CPU the gradients of each phase.
        same_operations = not network.layout.block_groups
        steps, gradients = recorders(context.device, same_operations) if step.steady else (None, None)
        self.step_replays = Replays(steps, partial(trained_tensors, network, self.optimisers))
        self.gradient_replays = Replays(gradients, partial(trained_tensors, network))
        #: Which steps have their gradients recorded, decided when the first of a kind comes.
        self._recorded: dict[StepKind, bool] = {}
        #: Which parameters have a gradient, where gradients are recorded.
        self._with_gradient: dict[Hashable, list[nn.Parameter]] = {}
        self.history = History()
        self.best = [tensor.clone() for tensor in trained_tensors(network)]
        replicas = train.replicas
        self.keeps_last = torch.tensor(keeps_last or [False] * replicas, device=context.device)
        self.best_error = torch.full((replicas,), math.inf, device=context.device)
        self.best_epoch = torch.zeros(replicas, dtype=torch.int64, device=context.device)
        #: Epoch at which a replica ran out of patience, 0 while it goes on.
        self.frozen_at = torch.zeros(replicas, dtype=torch.int64, device=context.device)
        #: Of each epoch the mean loss and of each evaluation the validation error, [R].
        self.losses: list[Tensor] = []
        self.validation: list[Tensor] = []
        #: Steps and epochs that are over.
        self.next_step = 0
        self.epoch = 0

    def run(self) -> History:
        """Train to the end of the schedule, from the checkpoint if there is one; raises Stopped at an epoch's end.

        It ends before when every replica has run out of patience. One that has goes through the same motions as long as
        the others train, and nothing comes of them.
        """
        self._load()
        began = time.perf_counter() - self.history.seconds
        saved_at, pause = time.perf_counter(), CHECKPOINT_SECONDS
        total = self.schedule.epochs
        while not self._over():
            self.run_epoch()
            self.epoch += 1
            if self.epoch % self.schedule.evaluate_every == 0 or self.epoch == total:
                self.keep_best()
            now = time.perf_counter()
            self.history.seconds = now - began
            self.context.progress(self.epoch, total, "training")
            try:
                self.context.stop()
            except Stopped:
                self.save()
                raise
            if now - saved_at >= pause or self._over():
                self.save()
                saved_at = time.perf_counter()
                pause = max(CHECKPOINT_SECONDS, (saved_at - now) / CHECKPOINT_SHARE)
        self.restore_best()
        return self._finish()

    def _over(self) -> bool:
        frozen = self.schedule.patience is not None and bool((self.frozen_at > 0).all())
        return frozen or self.epoch >= self.schedule.epochs

    def run_epoch(self) -> None:
        """Take the steps of an epoch on rows in a new order, and note each replica's mean loss."""
        self.network.train()
        schedule, train, device = self.schedule, self.train, self.context.device
        permutations = torch.stack([torch.randperm(train.rows, generator=g) for g in self.generators]).to(device)
        per_step = sum(math.prod(shape) for shape in self.noise_shapes.values())
        block = max(1, min(schedule.steps_per_epoch, NOISE_FLOATS // max(1, per_step)))
        losses = torch.zeros(train.replicas, device=device)
        for first in range(0, schedule.steps_per_epoch, block):
            steps = min(block, schedule.steps_per_epoch - first)
            noise = replica_noise((steps, per_step), self.noise_generators, device)
            rows = permutations[:, first * schedule.batch : (first + steps) * schedule.batch]
            self._run_steps(losses, rows.unflatten(1, (steps, schedule.batch)), noise)
        self.losses.append(losses / schedule.steps_per_epoch)

    def _run_steps(self, losses: Tensor, index: Tensor, noise: Tensor) -> None:
        """Take a step for each batch of rows ``index`` [R, steps, b], and add its losses to ``losses`` [R].

        ``noise`` is [R, steps, floats].
        """
        if not self.step_replays.recording:
            for step in range(index.shape[1]):
                number, rows, own = self.next_step, index[:, step], noise[:, step]
                kind, share = self.kind_of(number), self._share(number)
                take = self._replayed_step if self._worth_recording(number, kind) else self.take_step
                losses += take(rows, own, share, kind)
                self.next_step += 1
            return
        for rows, own in zip(index.split(STEPS_PER_REPLAY, dim=1), noise.split(STEPS_PER_REPLAY, dim=1), strict=True):
            first, count = self.next_step, rows.shape[1]
            kinds = tuple(map(self.kind_of, range(first, first + count)))
            # As in ``_share``, on the device; in double precision it multiplies as a number does.
            numbers = torch.arange(first + 1, first + count + 1, dtype=torch.float64, device=index.device)
            shares = (numbers / max(1, self.schedule.warm_steps)).clamp(max=1)

            def steps(inputs: Tensors, kinds: tuple[StepKind, ...] = kinds) -> Tensors:
                rows, own, shares = inputs
                several = [
                    self.take_step(rows[:, step], own[:, step], shares[step], kind) for step, kind in enumerate(kinds)
                ]
                return (torch.stack(several).sum(0),)

            losses += self.step_replays.run(kinds, (rows, own, shares), steps)[0]
            self.next_step += count

    def kind_of(self, step: int) -> StepKind:
        """Return what Python decides about a step, by its number from 0."""
        phases = tuple(number for number, phase in enumerate(self.phases) if (step + 1) % phase.every == 0)
        return StepKind(step < self.schedule.warm_steps, phases)

    def _share(self, step: int) -> float:
        """Return the share of the warm-up that is over after a step."""
        return min(1.0, (step + 1) / self.schedule.warm_steps) if self.schedule.warm_steps else 1.0

    def _worth_recording(self, step: int, kind: StepKind) -> bool:
        """Return whether enough steps are left, when the first of its kind comes, for recording gradients to pay."""
        if not self.gradient_replays.recording:
            return False
        schedule = self.schedule
        last = schedule.warm_steps if kind.warm else schedule.epochs * schedule.steps_per_epoch
        return self._recorded.setdefault(kind, last - step >= STEPS_WORTH_RECORDING)

    def take_step(self, index: Tensor, numbers: Tensor, share: float | Tensor, kind: StepKind) -> Tensor:
        """Take a step on the rows ``index`` [R, b] with noise [R, floats]; return the loss of the first phase, [R]."""
        noise = StepNoise(numbers, self.noise_shapes)
        x, warmup = self._given(index, noise), Warmup(share, kind.warm)
        losses = []
        for number in kind.phases:
            losses.append(self._set_gradients(number, x, noise, warmup))
            step_at_own_rates(self.optimisers[number], self.rates[number])
        return losses[0]

    def _replayed_step(self, index: Tensor, numbers: Tensor, share: float, kind: StepKind) -> Tensor:
        """Take the same step with recorded gradients."""
        losses = []
        # In double precision it multiplies as a number does.
        inputs = index, numbers, torch.tensor(share, dtype=torch.float64)
        for number in kind.phases:
            # A view of contiguous noise is recorded as a view, which other noise may not have.
            name = number, kind.warm, numbers.is_contiguous()

            def gradients(inputs: Tensors, number: int = number, name: Hashable = name) -> Tensors:
                index, own, share = inputs
                noise = StepNoise(own, self.noise_shapes)
                loss = self._set_gradients(number, self._given(index, noise), noise, Warmup(share, kind.warm))
                self._with_gradient[name] = [p for p in self._moved(number) if p.grad is not None]
                return (loss, *(p.grad for p in self._with_gradient[name] if p.grad is not None))

            loss, *found = self.gradient_replays.run(name, inputs, gradients)
            for parameter, gradient in zip(self._with_gradient[name], found, strict=True):
                parameter.grad = gradient
            step_at_own_rates(self.optimisers[number], self.rates[number])
            losses.append(loss)
        return losses[0]

    def _rows(self, index: Tensor) -> Rows:
        """Return the encoded rows ``index`` [R, b]."""
        return Rows(self.encoder.encode(self.train.batch(index)))

    def _given(self, index: Tensor, noise: StepNoise) -> Rows:
        """Return the same as the network is given them, some entries hidden from its input where that is asked for."""
        x = self._rows(index)
        if self.drops:
            chosen = noise.normal(DROPOUT, *self.noise_shapes[DROPOUT])
            dropped = chosen_at_random(chosen, self.network.input_dropout)
            x = replace(x, kept=x.target.without(dropped, self.network.layout))
        return self.network.given(x, noise)

    def _moved(self, number: int) -> list[nn.Parameter]:
        """Return the parameters a phase moves."""
        return [parameter for group in self.optimisers[number].param_groups for parameter in group["params"]]

    def _set_gradients(self, number: int, x: Rows, noise: StepNoise, warmup: Warmup) -> Tensor:
        """Set the clipped gradients of a phase's parameters and return its loss, [R]."""
        moved = self._moved(number)
        losses = self.network.phase_loss(self.phases[number].name, x, noise, warmup)
        for parameter in moved:
            parameter.grad = None
        losses.sum().backward(inputs=moved)
        if self.clip_norm is not None:
            clip_per_replica(moved, self.clip_norm)
        return losses.detach()

    @torch.no_grad()
    def keep_best(self) -> None:
        """Validate, and keep the present state of each replica whose error is lower than any before.

        Not while the objective of the network is not whole yet, nor of a replica that has run out of patience.
        """
        self.network.eval()
        error = self.validate()
        first = self.schedule.warm_epochs if self.network.warms_up else 0
        better = (error < self.best_error) | (self.keeps_last & error.isfinite())
        improved = better & (self.frozen_at == 0) & (self.epoch >= first)
        self.best_error = torch.where(improved, error, self.best_error)
        self.best_epoch = torch.where(improved, self.epoch, self.best_epoch)
        for best, current in zip(self.best, trained_tensors(self.network), strict=True):
            best.copy_(torch.where(improved.view(-1, *(1,) * (best.dim() - 1)), current, best))
        self.validation.append(error)
        self.history.validation_epochs.append(self.epoch)
        if self.schedule.patience is not None:
            tired = self.epoch - self.best_epoch.clamp(min=first) >= self.schedule.patience
            self.frozen_at = torch.where((self.frozen_at == 0) & tired, self.epoch, self.frozen_at)

    @torch.no_grad()
    def restore_best(self) -> None:
        """Put each replica back into the best state that was kept."""
        self.network.eval()
        for best, current in zip(self.best, trained_tensors(self.network), strict=True):
            current.copy_(best)

    def _finish(self) -> History:
        history = self.history
        history.epochs = torch.where(self.frozen_at > 0, self.frozen_at, self.epoch).tolist()
        history.steps = [epochs * self.schedule.steps_per_epoch for epochs in history.epochs]
        history.best_epoch = self.best_epoch.tolist()
        history.best_error = self.best_error.tolist()
        losses, errors = torch.stack(self.losses, dim=1).tolist(), torch.stack(self.validation, dim=1).tolist()
        history.loss = [own[:epochs] for own, epochs in zip(losses, history.epochs, strict=True)]
        history.validation = [
            [error for error, epoch in zip(own, history.validation_epochs, strict=True) if epoch <= epochs]
            for own, epochs in zip(errors, history.epochs, strict=True)
        ]
        return history

    def save(self) -> None:
        """Write the checkpoint, if the training has one."""
        path = self.context.checkpoint
        if path is None:
            return
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.next_step,
            "seconds": self.history.seconds,
            "state": trained_tensors(self.network),
            "best": self.best,
            "best_error": self.best_error,
            "best_epoch": self.best_epoch,
            "frozen_at": self.frozen_at,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "losses": self.losses,
            "validation": self.validation,
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
        self.best_error, self.best_epoch, self.frozen_at = state["best_error"], state["best_epoch"], state["frozen_at"]
        for optimiser, optimiser_state in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(optimiser_state)
        self.losses, self.validation = state["losses"], state["validation"]
        self.history.validation_epochs = state["validation_epochs"]
        self.history.seconds = state["seconds"]
        self.epoch, self.next_step = state["epoch"], state["step"]
        for mine, saved in ((self.generators, "generators"), (self.noise_generators, "noise_generators")):
            for generator, generator_state in zip(mine, state[saved], strict=True):
                generator.set_state(generator_state.cpu())
