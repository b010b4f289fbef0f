"""The base of every neural method: encode, train the stack, keep the best state by the shared rule, impute."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.data.kinds import Kind
from bench.data.table import Values
from bench.data.view import Incomplete, TensorView, nothing_observed
from bench.errors import BenchError
from bench.neural.engine.bank import INITIALISATIONS, parameter_count, reset_parameters
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import DrawnNoise, replica_generators
from bench.neural.engine.schedule import History
from bench.neural.engine.selection import ROW_CHUNK, HeldOutError, row_chunks
from bench.neural.engine.trainer import Trainer
from bench.neural.heads import Spreads
from bench.neural.model import LatentModel, Network, require_choice
from bench.neural.rows import Imputed, Layout, Rows
from bench.plugins.contracts import StackedMethod

#: Floats that one replica may hold of draws that are picked together.
DRAWN_FLOATS = 2**22
#: A latent block whose mean KL is below this carries no information.
COLLAPSED_NATS = 0.01
#: Points of a curve that a row keeps: every evaluation of the preset ``quick``.
CURVE_POINTS = 50
#: Latent blocks whose KL a row lists one by one.
LISTED_BLOCKS = 64


class NeuralStackedMethod(StackedMethod):
    """Subclass it and name its ``network``: all that differs between neural methods.

    A parameter set may name an ``initialisation`` of the weights, ``uniform`` (as without one) or ``orthogonal``.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical", "image", "features")
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    parameter_sets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {"scaling": "standard", "learning_rate": None, "clip_norm": 5.0},
    }
    #: The class of the stack of networks; or write ``build``.
    network: ClassVar[type[Network]] = Network

    def build(self, layout: Layout, replicas: int) -> Network:
        """Return the untrained stack of networks for a layout."""
        return self.network(layout, replicas, self.parameters)

    def fit_many(self, train: Incomplete, validation: Incomplete, seeds: Sequence[int]) -> None:
        """Train all replicas at once and keep each one's best state on the held-out validation entries."""
        if len(seeds) != train.replicas:
            raise ValueError(f"{train.replicas} replicas need as many seeds, not {len(seeds)}")
        if len(train) < 2:
            raise BenchError(f"method '{self.name}' needs at least two training rows")
        device = self.context.device
        self.parameters = self.parameters_per_replica(train.replicas)
        layout = Layout(train.schema)
        self.encoder = Encoder(train, layout, self.parameters.get("scaling", "standard"), device)
        layout.to(device)
        self.model = self.build(layout, train.replicas)
        initialisation = require_choice(
            "initialisation", self.parameters.get("initialisation", "uniform"), tuple(INITIALISATIONS)
        )
        reset_parameters(self.model, replica_generators("initialisation", seeds), initialisation)
        self.model.to(device)
        for module in self.model.modules():
            # A spread of 1 where the data's is a quarter weighs the KL too much until it is learned, and Adam is slow.
            if isinstance(module, Spreads):
                module.start_spreads(self.encoder.floor_spread)
        self._seeds = list(seeds)
        validate = self._validator(validation)
        #: Of each replica: whether its last state is kept, since held-out entries cannot tell which is best.
        self.keeps_last = [self.model.models_missing and not ignorable for ignorable in validation.ignorable]
        learning_rate = self.parameters.get("learning_rate")
        if learning_rate is None:
            learning_rate = self.context.budget.learning_rate
        trainer = Trainer(
            self.model,
            train.tensors(device),
            self.encoder,
            validate,
            seeds,
            self.context,
            self.parameters.get("clip_norm"),
            learning_rate,
            self.keeps_last,
        )
        self.history: History = trainer.run()
        if len(self.failures()) == train.replicas:
            raise BenchError(f"training of '{self.name}' diverged: no finite validation error")

    def _noise(self, stream: str, seeds: Sequence[int]) -> DrawnNoise:
        """Return the noise of a named stream."""
        device = self.context.device
        return DrawnNoise(replica_generators(stream, seeds, device), device)

    def failures(self) -> Mapping[int, str]:
        """Return the replicas whose training never had a finite validation error."""
        return {
            replica: f"training of '{self.name}' diverged: no finite validation error"
            for replica, error in enumerate(self.history.best_error)
            if not math.isfinite(error)
        }

    def parameters_per_replica(self, replicas: int) -> dict[str, Any]:
        """Return the parameters, each tunable one that is a list as a tensor [R, 1]; raises ValueError on its length.

        A learning rate of None is the budget's.
        """
        parameters = dict(self.parameters)
        for name in self.tunable:
            values = parameters[name]
            if not isinstance(values, list):
                continue
            if len(values) != replicas:
                raise ValueError(f"{replicas} replicas need as many values of {name}, not {len(values)}")
            usual = self.context.budget.learning_rate if name == "learning_rate" else None
            numbers = [usual if value is None else value for value in values]
            parameters[name] = torch.tensor(numbers, dtype=torch.float32, device=self.context.device)[:, None]
        return parameters

    def _validator(self, validation: Incomplete) -> Callable[[], Tensor]:
        """Return the function that measures the held-out error, [R]; raises ValueError if nothing is held out."""
        if not validation.folds:
            raise ValueError("a validation view needs folds of held-out entries")
        rule, order = HeldOutError(validation, self.encoder, self.context.device), self.encoder.layout.order
        #: Of each replica: the held-out entries that decide, and what the floor scores on them.
        self.validation_entries = [int(entries) for entries in rule.entries.sum(1)]
        self.floor_error: list[float] = rule.floor_error().tolist()
        draws = self.context.budget.validation_draws

        @torch.no_grad()
        def imputed() -> Iterator[Imputed]:
            # The same noise each time: epochs differ by what was learned, not by luck. Each fold has its own, so that
            # what one imputes in other replicas of the stack moves nothing in the next.
            noise = [self._noise(f"validation, fold {number}", self._seeds) for number in range(len(validation.folds))]
            for chunk in rule.chunks:
                held_out = chunk.held_out.batch(chunk.index).observed[..., order]
                rows = Rows(self.encoder.encode(chunk.shown.batch(chunk.index)), held_out=held_out)
                yield self.model.impute(rows, draws, noise[chunk.fold])[0]

        return lambda: rule.relative_error(imputed())

    @torch.no_grad()
    def _imputed(
        self,
        view: TensorView,
        chunks: Sequence[Tensor],
        draws: int,
        stream: str,
        notes: dict[str, list[Tensor]],
        report: bool = False,
    ) -> Iterator[Imputed]:
        """Yield the imputations of the view's rows [R, chunk], a chunk at a time, and add its notes to ``notes``."""
        noise = self._noise(stream, self._seeds)
        for done, index in enumerate(chunks):
            imputed, diagnostics = self.model.impute(Rows(self.encoder.encode(view.batch(index))), draws, noise)
            for name, value in diagnostics.items():
                notes.setdefault(name, []).append(value)
            yield imputed
            if report:
                self.context.progress(done + 1, len(chunks), "imputing")
                self.context.stop()

    def impute_many(self, data: Incomplete, draws: int) -> list[Values]:
        """Impute every replica of ``data`` with its own network."""
        notes: dict[str, list[Tensor]] = {}
        device = self.context.device
        view, chunks = data.tensors(device), row_chunks(len(data), data.replicas, device)
        values = self.encoder.to_values(self._imputed(view, chunks, draws, "evaluation", notes, report=True), data)
        self.notes = {name: torch.cat(parts, dim=1) for name, parts in notes.items()}
        return values

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return per replica: epochs, best epoch, losses, parameter count, means of notes, KL per block."""
        history = self.history
        result = []
        for replica in range(len(self._seeds)):
            losses, errors = history.loss[replica], history.validation[replica]
            entry: dict[str, Any] = {
                "epochs": history.epochs[replica],
                "steps": history.steps[replica],
                "best_epoch": history.best_epoch[replica],
                "chosen_by": "last epoch" if self.keeps_last[replica] else "held-out error",
                "validation_entries": self.validation_entries[replica],
                "best_validation_error": history.best_error[replica],
                "last_validation_error": errors[-1],
                "floor_validation_error": self.floor_error[replica],
                "loss_curve": thinned(range(1, len(losses) + 1), losses),
                "loss_first": losses[0],
                "loss_last": losses[-1],
                "loss_lowest": min(losses),
                "validation_curve": thinned(history.validation_epochs[: len(errors)], errors),
                "training_seconds": history.seconds,
                "parameters": parameter_count(self.model),
            }
            for name, values in getattr(self, "notes", {}).items():
                if values.dim() == 3:
                    entry.update(block_summary(values[replica].mean(0)))
                    continue
                row_values = values[replica]
                entry[name] = float(row_values.mean())
                entry[f"{name}_median"] = float(row_values.median())
            result.append(entry)
        return result


class DrawingMethod(NeuralStackedMethod):
    """A neural method whose network defines ``draw``."""

    @torch.no_grad()
    def sample_many(self, data: Incomplete, draws: int, seed: int) -> list[list[Values]]:
        """Return ``draws`` complete versions of each replica of ``data``, each row drawn from p(x | x_o, m).

        Draws of a row are picked from as many proposals as the budget has imputation draws.
        """
        device = self.context.device
        tensors, noise = data.tensors(device), self._noise(f"draws {seed}", self._seeds)
        parts: list[Imputed] = []
        at_a_time = min(ROW_CHUNK, max(1, DRAWN_FLOATS // (draws * self.encoder.layout.width)))
        for rows in torch.arange(len(data), device=device).split(at_a_time):
            x = Rows(self.encoder.encode(tensors.batch(rows.expand(data.replicas, -1))))
            parts.append(self.model.draw(x, self.context.budget.draws, noise, draws))
            self.context.stop()
        by_draw = [
            self.encoder.to_values([version_of(part, draw, draws) for part in parts], data) for draw in range(draws)
        ]
        return [[values[replica] for values in by_draw] for replica in range(data.replicas)]


class VariationalMethod(NeuralStackedMethod):
    """A neural method whose network is a ``LatentModel``; ``literal`` is the appendix of VSAE to the letter."""

    tunable: ClassVar[Mapping[str, Sequence[Any]]] = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
    }
    parameter_sets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {
            "learned_scale": True,
            "scale_floor": 1e-3,
            "decoder_literal": False,
            "latent": None,
            "kl_warm_up": True,
            "kl_weight": 1.0,
            "importance_weights": True,
        },
        "literal": {
            "scaling": "minmax",
            "learned_scale": False,
            "decoder_literal": True,
            "kl_warm_up": False,
            "clip_norm": None,
        },
    }


class LatentStackedMethod(VariationalMethod, DrawingMethod):
    """A variational method whose model has a prior: it also draws imputations and whole rows."""

    @torch.no_grad()
    def generate(self, rows: int, seed: int) -> Values:
        """Return rows sampled from the model, its latent variables from the prior."""
        model, device = self._latent_model(), self.context.device
        replicas = len(self._seeds)
        blank = nothing_observed(self.encoder.layout.schema, rows, replicas)
        positions = torch.arange(rows, device=device).expand(replicas, -1)
        x = Rows(self.encoder.encode(blank.tensors(device).batch(positions)))
        drawn = model.generate(x, self._noise("generations", [seed] * replicas))
        return self.encoder.to_values([drawn], blank)[0]

    def _latent_model(self) -> LatentModel:
        if not isinstance(self.model, LatentModel):
            raise TypeError(f"the network of '{self.name}' is no LatentModel")
        return self.model


def version_of(part: Imputed, draw: int, draws: int) -> Imputed:
    """Return one of ``draws`` versions of the same rows, which stand one behind another, [R, draws * b, ...]."""
    rows = part.numeric.shape[1] // draws
    own = slice(draw * rows, (draw + 1) * rows)
    return Imputed(part.numeric[:, own], part.categorical[:, own], tuple(block[:, own] for block in part.blocks))


def block_summary(kl: Tensor) -> dict[str, Any]:
    """Return what the mean KL of each latent block [K] says: how many carry nothing, and each one's if they are few.

    A block is what a method gives: an attribute's latent variables (VSAE), else a latent dimension.
    """
    summary: dict[str, Any] = {
        "latent_blocks": len(kl),
        "collapsed_share": float((kl < COLLAPSED_NATS).float().mean()),
        "kl_largest_block": float(kl.max()),
    }
    if len(kl) <= LISTED_BLOCKS:
        summary["kl_per_block"] = [round(value, 4) for value in kl.tolist()]
    return summary


def thinned(epochs: Sequence[int], values: Sequence[float], keep: int = CURVE_POINTS) -> list[list[float]]:
    """Return at most ``keep`` evenly spaced (epoch, value) pairs of a curve, its ends included."""
    count = len(epochs)
    chosen = sorted({round(i * (count - 1) / max(1, min(keep, count) - 1)) for i in range(min(keep, count))})
    return [[epochs[i], round(values[i], 6)] for i in chosen]
