"""How much the rule of model selection gives away, and how often rounding alone changes a choice.

Each training notes, at every evaluation, what several rules would choose by, and the error on the test entries: one
half of these finds the best epoch there was, the other judges what a rule chose. The *regret* of a rule is the error at
its epoch less that at the best one, in percent of the floor's. The test truth judges the rules, and none of them sees
it. ``--flips`` trains again with products rounded otherwise and counts the choices that change.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.data.schema import BoolArray, FloatArray
from bench.data.view import Incomplete

#: What a rule's criterion is; the last epoch has none.
RULES = ("rotated", "one fold, its own floor", "held out as a third state", "twice the draws", "bound", "last epoch")
METHODS = ("vsae", "vae", "cvae", "miwae", "gain", "hivae")
DATASETS = ("yeast", "whitewine", "heart_cleveland", "phishing")
#: Methods that have a likelihood of the mask.
MASK_MODELS = ("vsae", "not_miwae")


@dataclass(frozen=True)
class Curves:
    """What one training of a stack noted: per rule the criterion, and the two halves' test error, each [E, R]."""

    epochs: FloatArray
    criteria: Mapping[str, FloatArray]
    oracle: FloatArray
    judge: FloatArray
    warm: int

    def chosen(self, rule: str) -> FloatArray:
        """Return the evaluation that a rule chooses in each replica, [R]."""
        if rule == "last epoch":
            return np.full(self.judge.shape[1], len(self.judge) - 1)
        usable = np.where((self.epochs >= self.warm)[:, None], self.criteria[rule], np.inf)
        usable = np.where(np.isnan(usable), np.inf, usable)
        return usable.argmin(axis=0)

    def error_of(self, chosen: FloatArray) -> FloatArray:
        """Return the judge's error at an evaluation of each replica, [R]."""
        return self.judge[chosen, np.arange(self.judge.shape[1])]

    def regret(self, rule: str) -> FloatArray:
        """Return what a rule loses in each replica, [R], in percent of the floor's error."""
        best = np.where((self.epochs >= self.warm)[:, None], self.oracle, np.inf).argmin(axis=0)
        return 100 * (self.error_of(self.chosen(rule)) - self.error_of(best))

    def rank_correlation(self, rule: str) -> float:
        """Return Spearman's correlation of a rule's criterion with the judge's error, mean over replicas."""
        from scipy.stats import spearmanr

        criterion = self.criteria[rule]
        found = [spearmanr(criterion[:, r], self.judge[:, r]).statistic for r in range(self.judge.shape[1])]
        return float(np.nanmean(found))


def halves_of(view: Incomplete, complete: BoolArray, seed: int) -> tuple[Incomplete, Incomplete]:
    """Return two views that show one half each of the entries that ``view`` hides, where ``complete`` [n, M] has them."""
    rng = np.random.default_rng(seed)
    present = complete[view._rows]
    hidden, first = present & ~view.observed, rng.random(view.observed.shape) < 0.5
    return tuple(Incomplete(view._table, view._rows, hidden & half) for half in (first, ~first))  # type: ignore[return-value]


def noted(
    method: str, dataset: str, mechanism: str, ratio: float, seeds: Sequence[int], steps: int | None, parameters: str
) -> Curves:
    """Train a method on a data set under the preset ``quick``, a replica per seed, and return what was noted."""
    import torch

    from bench.experiment.presets import budget_for
    from bench.files.fetch import load_sound
    from bench.neural.engine.selection import HeldOutError, attribute_errors, row_chunks
    from bench.neural.model import LatentModel
    from bench.neural.rows import Rows
    from bench.plugins.contracts import Context
    from bench.plugins.registry import Registry, load
    from bench.problem.build import build_problem
    from bench.problem.held_out import floor_scales
    from bench.problem.scenario import Scenario

    registry = Registry.scan([])
    table = load_sound(load(registry.dataset(dataset))(), include_target=False).table
    info = registry.mechanism(mechanism)
    scenarios = [
        Scenario(dataset, table.content_hash, False, mechanism, dict(info.parameters), ratio, seed) for seed in seeds
    ]
    problem = build_problem(table, scenarios, [load(info)() for _ in seeds])
    oracle, judge = halves_of(problem.test, table.present, 0)
    budget = replace(budget_for("quick", table.schema.kinds), patience=None)
    if steps is not None:
        budget = replace(budget, steps=steps)
    cls = load(registry.method(method))
    notes: dict[str, list[FloatArray]] = {}

    class Noted(cls):  # type: ignore[misc, valid-type]
        """The method, taking notes at each evaluation."""

        def _validator(self, validation: Incomplete) -> Callable[[], torch.Tensor]:
            rule = HeldOutError(validation, self.encoder, self.context.device)
            own, twice = super()._validator(validation), None
            order = self.encoder.layout.order
            whole = validation.tensors("cpu"), row_chunks(len(validation), validation.replicas, "cpu")
            test = problem.test.tensors("cpu"), row_chunks(len(problem.test), problem.test.replicas, "cpu")
            halves = [half.tensors("cpu") for half in (oracle, judge)]
            scales = rule.scales
            layout = self.encoder.layout
            categorical = torch.zeros(layout.attributes, dtype=torch.bool)
            categorical[layout.numeric : layout.numeric + layout.categorical] = True
            del twice

            def combined(total: torch.Tensor, entries: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
                mean = total / entries.clamp(min=1)
                counts = (entries > 0) & (scale > 0)
                ratio = torch.where(categorical, mean, mean.sqrt()) / torch.where(counts, scale, 1.0)
                return torch.where(counts, ratio, 0.0).sum(1) / counts.sum(1).clamp(min=1)

            def folds(draws: int, third: bool) -> torch.Tensor:
                noise = [self._noise(f"validation, fold {n}", self._seeds) for n in range(len(validation.folds))]

                def imputed() -> Iterator[Any]:
                    for chunk in rule.chunks:
                        held = chunk.held_out.batch(chunk.index).observed[..., order] if third else None
                        rows = Rows(self.encoder.encode(chunk.shown.batch(chunk.index)), held_out=held)
                        yield self.model.impute(rows, draws, noise[chunk.fold])[0]

                return rule.relative_error(imputed())

            def one_fold(draws: int) -> torch.Tensor:
                noise, total, floor = self._noise("validation, fold 0", self._seeds), 0.0, 0.0
                for chunk in (c for c in rule.chunks if c.fold == 0):
                    truth = self.encoder.encode(chunk.held_out.batch(chunk.index))
                    rows = Rows(self.encoder.encode(chunk.shown.batch(chunk.index)))
                    part = self.model.impute(rows, draws, noise)[0]
                    total = total + attribute_errors(part, truth)
                    count = chunk.index.shape[1]
                    floor_part = type(part)(
                        self.encoder.floor.numeric.expand(-1, count, -1),
                        self.encoder.floor.categorical.expand(-1, count, -1, -1),
                        tuple(b.expand(-1, count, -1, -1) for b in self.encoder.floor.blocks),
                    )
                    floor = floor + attribute_errors(floor_part, truth)
                ratio = total / floor.clamp(min=1e-12)  # type: ignore[union-attr]
                ratio = torch.where(categorical, ratio, ratio.sqrt())
                counts = floor > 0
                return torch.where(counts, ratio, 0.0).sum(1) / counts.sum(1).clamp(min=1)  # type: ignore[union-attr]

            @torch.no_grad()
            def validate() -> torch.Tensor:
                draws = self.context.budget.validation_draws
                error = own()
                notes.setdefault("third", []).append(error.numpy())
                plain = folds(draws, False) if method in MASK_MODELS else error
                notes.setdefault("rotated", []).append(plain.numpy())
                notes.setdefault("twice the draws", []).append(folds(2 * draws, True).numpy())
                notes.setdefault("one fold, its own floor", []).append(one_fold(draws).numpy())
                if isinstance(self.model, LatentModel):
                    noise, bound = self._noise("validation bound", self._seeds), []
                    for index in whole[1]:
                        _, told = self.model.impute(Rows(self.encoder.encode(whole[0].batch(index))), draws, noise)
                        bound.append(told["bound"])
                    notes.setdefault("bound", []).append(-torch.cat(bound, 1).mean(1).numpy())
                noise = self._noise("selection test", self._seeds)
                totals = [torch.zeros_like(scales) for _ in halves]
                for index in test[1]:
                    part = self.model.impute(Rows(self.encoder.encode(test[0].batch(index))), 50, noise)[0]
                    for number, half in enumerate(halves):
                        totals[number] += attribute_errors(part, self.encoder.encode(half.batch(index)))
                for name, total, half in zip(("oracle", "judge"), totals, halves, strict=True):
                    entries = half.observed.sum(1).to(torch.float32)[:, order]
                    notes.setdefault(name, []).append(combined(total, entries, scales).numpy())
                return error

            return validate

    del floor_scales
    settings = dict(cls.parameter_sets[parameters])
    torch.set_num_threads(1)
    fitted = Noted(settings, Context(budget))
    fitted.fit_many(problem.train, problem.validation, list(seeds))
    curves = {name: np.stack(values) for name, values in notes.items()}
    curves["held out as a third state"] = curves.pop("third")
    oracle_curve, judge_curve = curves.pop("oracle"), curves.pop("judge")
    from bench.neural.engine.schedule import Schedule

    warm = (
        Schedule.of(fitted.model.training_budget(budget), len(problem.train)).warm_epochs
        if fitted.model.warms_up
        else 0
    )
    return Curves(np.array(fitted.history.validation_epochs), curves, oracle_curve, judge_curve, warm)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line per training, then the table of rules."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__)
    made.add_argument("--methods", default=",".join(METHODS))
    made.add_argument("--datasets", default=",".join(DATASETS))
    made.add_argument("--mechanism", default="mcar")
    made.add_argument("--ratio", type=float, default=0.5)
    made.add_argument("--seeds", type=int, default=10)
    made.add_argument("--steps", type=int, default=None)
    made.add_argument("--parameters", default="default")
    made.add_argument("--save", default=None)
    options = made.parse_args(arguments)
    import time

    for dataset in options.datasets.split(","):
        for method in options.methods.split(","):
            began = time.process_time()
            try:
                curves = noted(
                    method,
                    dataset,
                    options.mechanism,
                    options.ratio,
                    range(options.seeds),
                    options.steps,
                    options.parameters,
                )
            except Exception as error:
                print("failed", dataset, method, repr(error)[:300], flush=True)
                continue
            out = {
                "dataset": dataset,
                "method": method,
                "mechanism": options.mechanism,
                "seconds": round(time.process_time() - began),
            }
            for rule in [*curves.criteria, "last epoch"]:
                regret = curves.regret(rule)
                out[rule] = {
                    "regret": [round(float(r), 2) for r in regret],
                    "rank": None if rule == "last epoch" else round(curves.rank_correlation(rule), 3),
                    "chosen": curves.chosen(rule).tolist(),
                }
            print(json.dumps(out), flush=True)
            if options.save:
                import pickle

                with open(options.save, "ab") as stream:
                    pickle.dump((dataset, method, options.mechanism, curves), stream)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
