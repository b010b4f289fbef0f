"""How much the rule of model selection gives away, and how often rounding alone changes a choice.

``python -m benchmarks.selection`` trains methods on data sets and notes, at every evaluation, what each rule would
choose by, and the error on the test entries: one half of these finds the best epoch there was, the other judges what a
rule chose. The *regret* of a rule is the error at its epoch less that at the best one, in percent of the floor's error.
The test truth judges the rules; none of them sees it. Patience is off, so that all see the same epochs. With
``--flips`` each training is repeated with other kernels of the same libraries, as another processor would have them,
and the choices that change are counted. Needs the checkout.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.data.schema import BoolArray, FloatArray, IntArray
from bench.data.view import Incomplete
from benchmarks.common import ROOT
from benchmarks.problems import posed

if TYPE_CHECKING:
    from torch import Tensor

    from bench.neural.engine.selection import HeldOutError
    from bench.neural.method import NeuralStackedMethod
    from bench.neural.rows import Imputed

METHODS = ("vsae", "vae", "cvae", "miwae", "gain", "hivae")
DATASETS = ("yeast", "whitewine", "heart_cleveland", "phishing", "mnist_label")
#: Methods with a likelihood of the mask.
MASK_MODELS = ("vsae", "not_miwae")
#: The rule that the suite follows, and those it is compared with.
OURS = "ours"
PATIENT = "with patience"
OTHERS = (PATIENT, "as hidden", "twice the draws", "one fold", "bound", "last epoch")
RULES = (OURS, *OTHERS)
MEANING = {
    OURS: "rotated folds, scales from training entries; a likelihood of the mask leaves held-out entries out; the last "
    "epoch for models of p(m | x) where the mechanism is not ignorable",
    PATIENT: "ours among the evaluations until a training has had no better one for a third of its epochs, as in quick",
    "as hidden": "the same, but held-out entries count as hidden in a likelihood of the mask",
    "twice the draws": "ours with twice the validation draws",
    "one fold": "one fold instead of up to five, in units of the floor's error on the same few entries",
    "bound": "the method's own bound on validation rows",
    "last epoch": "no choice",
}
#: Draws of each test row, for the judge and the oracle.
JUDGING_DRAWS = 50
#: What another processor computes otherwise: the kernels that the libraries have for every processor.
OTHER_KERNELS = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}


@dataclass(frozen=True)
class Case:
    """Trainings that are noted together: a replica per seed."""

    dataset: str
    method: str
    mechanism: str
    ratio: float
    seeds: int
    steps: int | None


@dataclass(frozen=True)
class Curves:
    """What the trainings of a case noted: a criterion per rule, and both halves' test error, each [E, R]."""

    epochs: IntArray
    criteria: Mapping[str, FloatArray]
    oracle: FloatArray
    judge: FloatArray
    warm_epochs: int
    keeps_last: bool
    #: Epochs without a better evaluation after which the presets freeze a replica.
    patience: int

    def after_warm_up(self, criterion: FloatArray) -> FloatArray:
        """Return a criterion that chooses no epoch of the warm-up and none without a finite value, [E, R]."""
        usable = (self.epochs >= self.warm_epochs)[:, None] & np.isfinite(criterion)
        return np.where(usable, criterion, np.inf)

    def chosen(self, rule: str) -> IntArray:
        """Return the evaluation that a rule chooses in each replica, [R]."""
        if rule == "last epoch" or (rule in (OURS, PATIENT) and self.keeps_last):
            return np.full(self.judge.shape[1], len(self.judge) - 1)
        if rule == PATIENT:
            return np.array([self.before_the_freeze(r) for r in range(self.judge.shape[1])])
        return np.asarray(self.after_warm_up(self.criteria[rule]).argmin(axis=0))

    def before_the_freeze(self, replica: int) -> int:
        """Return the evaluation that our rule chooses in a replica that is frozen when its patience is over."""
        best, lowest = 0, np.inf
        for at, error in enumerate(self.after_warm_up(self.criteria[OURS])[:, replica]):
            if error < lowest:
                best, lowest = at, error
            since = max(self.epochs[best], self.warm_epochs) if np.isfinite(lowest) else self.warm_epochs
            if self.epochs[at] - since >= self.patience:
                break
        return best

    def regret(self, rule: str) -> FloatArray:
        """Return what a rule loses in each replica, [R], in percent of the floor's error."""
        replicas = np.arange(self.judge.shape[1])
        best = self.after_warm_up(self.oracle).argmin(axis=0)
        return np.asarray(100 * (self.judge[self.chosen(rule), replicas] - self.judge[best, replicas]))

    def rank_correlation(self, rule: str) -> float:
        """Return Spearman's correlation of a rule's criterion with the judge's error, the mean over replicas."""
        from scipy.stats import spearmanr

        criterion = self.criteria[OURS if rule == PATIENT else rule]
        found = [spearmanr(criterion[:, r], self.judge[:, r]).statistic for r in range(criterion.shape[1])]
        return float(np.nanmean(found))


@dataclass(frozen=True)
class Verdict:
    """What a rule did in the trainings of a case: the regret and the epoch chosen of each, and the correlation."""

    regret: Sequence[float]
    epochs: Sequence[int]
    rank_correlation: float | None


@dataclass(frozen=True)
class Outcome:
    """A case, what each rule did in it, and its processor seconds."""

    case: Case
    verdicts: Mapping[str, Verdict]
    seconds: float

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """Return the outcome that a line of ``--json`` holds."""
        found = json.loads(line)
        verdicts = {rule: Verdict(**verdict) for rule, verdict in found["verdicts"].items()}
        return cls(Case(**found["case"]), verdicts, found["seconds"])

    def as_line(self) -> str:
        """Return the outcome as one line of JSON."""
        verdicts = {rule: vars(verdict) for rule, verdict in self.verdicts.items()}
        return json.dumps({"case": vars(self.case), "verdicts": verdicts, "seconds": self.seconds})


def halves_of(view: Incomplete, complete: BoolArray, seed: int) -> list[Incomplete]:
    """Return two views that show a half each of the entries that ``view`` hides and ``complete`` [N, M] has."""
    first = np.random.default_rng(seed).random(view.observed.shape) < 0.5
    hidden: BoolArray = complete[view._rows] & ~view.observed
    halves: list[BoolArray] = [hidden & first, hidden & np.logical_not(first)]
    return [Incomplete(view._table, view._rows, half) for half in halves]


@dataclass
class Notes:
    """Takes the place of a method's own measure of its held-out error, which it also returns, and notes the others."""

    method: NeuralStackedMethod
    own: Callable[[Incomplete], Callable[[], Tensor]]
    test: Incomplete
    halves: Sequence[Incomplete]
    noted: dict[str, list[FloatArray]] = field(default_factory=dict)

    def __call__(self, validation: Incomplete) -> Callable[[], Tensor]:
        """Return the function that measures the held-out error, [R], and notes what every rule goes by."""
        import torch

        from bench.neural.engine.selection import HeldOutError
        from bench.neural.model import LatentModel

        own = self.own(validation)
        rule = HeldOutError(validation, self.method.encoder, "cpu")
        draws = self.method.context.budget.validation_draws

        @torch.no_grad()
        def measured() -> Tensor:
            error = own()
            found = {
                OURS: error,
                "twice the draws": rule.relative_error(self.imputed(rule, 2 * draws)),
                "one fold": self.one_fold(rule, draws),
            }
            if self.method.name in MASK_MODELS:
                found["as hidden"] = rule.relative_error(self.imputed(rule, draws, as_hidden=True))
            if isinstance(self.method.model, LatentModel):
                found["bound"] = -self.bound(validation, draws)
            found["oracle"], found["judge"] = self.test_errors(rule.scales)
            for name, value in found.items():
                self.noted.setdefault(name, []).append(value.double().numpy())
            return error

        return measured

    def imputed(self, rule: HeldOutError, draws: int, as_hidden: bool = False) -> Iterator[Imputed]:
        """Yield the imputations of the rule's chunks, with the noise that the suite's own measure has."""
        from bench.neural.rows import Rows

        order, folds = self.method.encoder.layout.order, range(len(rule.validation.folds))
        noise = [self.method._noise(f"validation, fold {number}", self.method._seeds) for number in folds]
        for chunk in rule.chunks:
            held_out = None if as_hidden else chunk.held_out.batch(chunk.index).observed[..., order]
            rows = Rows(self.method.encoder.encode(chunk.shown.batch(chunk.index)), held_out=held_out)
            yield self.method.model.impute(rows, draws, noise[chunk.fold])[0]

    def one_fold(self, rule: HeldOutError, draws: int) -> Tensor:
        """Return the error on one fold's entries in units of the floor's on the same entries, [R]."""
        import torch

        from bench.neural.engine.selection import attribute_errors, mean_in_units
        from bench.neural.rows import Imputed

        floor, layout = self.method.encoder.floor, self.method.encoder.layout
        error, floor_error, entries = (torch.zeros_like(rule.scales) for _ in range(3))
        for chunk, part in zip(rule.chunks, self.imputed(rule, draws), strict=False):
            if chunk.fold:
                break
            truth, count = self.method.encoder.encode(chunk.held_out.batch(chunk.index)), chunk.index.shape[1]
            blocks = tuple(block.expand(-1, count, -1, -1) for block in floor.blocks)
            fills = Imputed(floor.numeric.expand(-1, count, -1), floor.categorical.expand(-1, count, -1, -1), blocks)
            error += attribute_errors(part, truth)
            floor_error += attribute_errors(fills, truth)
            entries += truth.observed.sum(1)
        mean = floor_error / entries.clamp(min=1)
        categorical = torch.zeros(layout.attributes, dtype=torch.bool)
        categorical[layout.numeric : layout.numeric + layout.categorical] = True
        return mean_in_units(error, entries, torch.where(categorical, mean, mean**0.5), layout)

    def bound(self, validation: Incomplete, draws: int) -> Tensor:
        """Return the importance-weighted bound on log p of the validation rows, [R]."""
        import torch

        notes: dict[str, list[Tensor]] = {}
        for _ in self.imputations(validation, draws, "validation bound", notes):
            pass
        return torch.cat(notes["bound"], 1).mean(1)

    def imputations(
        self, view: Incomplete, draws: int, stream: str, notes: dict[str, list[Tensor]]
    ) -> Iterator[Imputed]:
        """Yield the imputations of a view's rows, a chunk at a time."""
        from bench.neural.engine.selection import row_chunks

        chunks = row_chunks(len(view), view.replicas, "cpu")
        return self.method._imputed(view.tensors("cpu"), chunks, draws, stream, notes)

    def test_errors(self, scales: Tensor) -> list[Tensor]:
        """Return the error on each half of the test entries, each [R], in the units of the rule."""
        import torch

        from bench.neural.engine.selection import attribute_errors, mean_in_units, row_chunks

        encoder, layout = self.method.encoder, self.method.encoder.layout
        tensors = [half.tensors("cpu") for half in self.halves]
        totals = [torch.zeros_like(scales) for _ in self.halves]
        chunks = row_chunks(len(self.test), self.test.replicas, "cpu")
        for index, part in zip(chunks, self.imputations(self.test, JUDGING_DRAWS, "judge", {}), strict=True):
            for total, half in zip(totals, tensors, strict=True):
                total += attribute_errors(part, encoder.encode(half.batch(index)))
        entries = [torch.as_tensor(half.observed.sum(1), dtype=torch.float32)[:, layout.order] for half in self.halves]
        return [mean_in_units(total, count, scales, layout) for total, count in zip(totals, entries, strict=True)]


def curves_of(case: Case) -> Curves:
    """Train the case's replicas as a stack under the preset ``quick``, without patience, and return what was noted."""
    import torch

    from bench.experiment.presets import budget_for
    from bench.neural.engine.schedule import Schedule
    from bench.neural.method import NeuralStackedMethod
    from bench.plugins.contracts import Context
    from bench.plugins.registry import Registry, load

    torch.set_num_threads(1)
    table, problem = posed(case.dataset, case.mechanism, case.ratio, case.seeds)
    usual = budget_for("quick", table.schema.kinds)
    budget = replace(usual, patience=None)
    if case.steps is not None:
        budget = replace(budget, steps=case.steps)
    cls = load(Registry.scan([]).method(case.method))
    method = cls(dict(cls.parameter_sets["default"]), Context(budget))
    if not isinstance(method, NeuralStackedMethod):
        raise SystemExit(f"'{case.method}' is not a neural method: it chooses no epoch")
    notes = Notes(method, method._validator, problem.test, halves_of(problem.test, table.present, 0))
    method._validator = notes  # type: ignore[method-assign]
    method.fit_many(problem.train, problem.validation, list(range(case.seeds)))
    found = {name: np.stack(values) for name, values in notes.noted.items()}
    oracle, judge = found.pop("oracle"), found.pop("judge")
    schedule = Schedule.of(method.model.training_budget(budget), len(problem.train))
    warm_epochs = schedule.warm_epochs if method.model.warms_up else 0
    epochs = np.array(method.history.validation_epochs)
    patience = math.ceil((usual.patience or 1.0) * schedule.epochs)
    return Curves(epochs, found, oracle, judge, warm_epochs, all(method.keeps_last), patience)


def outcome_of(case: Case) -> Outcome:
    """Return what each rule did in the trainings of a case."""
    began = time.process_time()
    curves = curves_of(case)
    verdicts = {
        rule: Verdict(
            [round(float(value), 3) for value in curves.regret(rule)],
            [int(curves.epochs[at]) for at in curves.chosen(rule)],
            round(curves.rank_correlation(rule), 3) if rule != "last epoch" else None,
        )
        for rule in RULES
        if rule in curves.criteria or rule in (PATIENT, "last epoch")
    }
    return Outcome(case, verdicts, round(time.process_time() - began, 1))


def outcome_elsewhere(case: Case) -> Outcome:
    """Return what each rule does in the same trainings with other kernels, in a process of its own."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    steps = [] if case.steps is None else ["--steps", str(case.steps)]
    command = [sys.executable, "-m", "benchmarks.selection", "--json", "--datasets", case.dataset]
    command += ["--methods", case.method, "--mechanism", case.mechanism, "--ratio", str(case.ratio)]
    command += ["--seeds", str(case.seeds), *steps]
    environment = {**os.environ, **OTHER_KERNELS, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Outcome.from_line(done.stdout.splitlines()[0])


def table_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line per case and rule: mean regret with its standard error, how many lose over 5 %, correlation."""
    lines = [f"{'data set':<16}{'method':<10}{'rule':<17}{'regret %':>9}{'+-':>6}{'> 5 %':>7}{'rank':>6}"]
    for outcome in outcomes:
        for rule, verdict in outcome.verdicts.items():
            lines.append(f"{outcome.case.dataset:<16}{outcome.case.method:<10}{summary_of(rule, [verdict])}")
    for rule in RULES:
        verdicts = [outcome.verdicts[rule] for outcome in outcomes if rule in outcome.verdicts]
        if verdicts:
            lines.append(f"{'all':<16}{'':<10}{summary_of(rule, verdicts)}")
    return lines


def summary_of(rule: str, verdicts: Sequence[Verdict]) -> str:
    """Return what a rule did in some cases, as one line."""
    regret = np.concatenate([np.array(verdict.regret) for verdict in verdicts])
    error = regret.std(ddof=1) / np.sqrt(len(regret)) if len(regret) > 1 else float("nan")
    ranks = [verdict.rank_correlation for verdict in verdicts if verdict.rank_correlation is not None]
    rank = f"{np.mean(ranks):6.2f}" if ranks else f"{'':>6}"
    return f"{rule:<17}{regret.mean():9.2f}{error:6.2f}{int((regret > 5).sum()):4d}/{len(regret):<2}{rank}"


def flips_of(here: Outcome, elsewhere: Outcome) -> dict[str, int]:
    """Return how many choices of each rule differ between two roundings of the same trainings."""
    return {
        rule: sum(a != b for a, b in zip(verdict.epochs, elsewhere.verdicts[rule].epochs, strict=True))
        for rule, verdict in here.verdicts.items()
    }


def flip_lines(case: Case, flips: Mapping[str, int]) -> list[str]:
    """Return a line per rule: how many of a case's choices rounding changes."""
    return [
        f"{case.dataset:<16}{case.method:<10}{rule:<17}{changed} of {case.seeds} choices flip"
        for rule, changed in flips.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line of JSON per case as it comes (``--json``), or the table of rules."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.selection", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--methods", default=",".join(METHODS), help="neural methods, by commas")
    made.add_argument("--datasets", default=",".join(DATASETS), help="data sets, by commas")
    made.add_argument("--mechanism", default="mcar")
    made.add_argument("--ratio", type=float, default=0.5)
    made.add_argument("--seeds", type=int, default=5, help="seeds 0 to N-1, one stack")
    made.add_argument("--steps", type=int, default=None, help="optimiser steps, instead of the preset's")
    made.add_argument(
        "--flips",
        action="store_true",
        help="repeat with other kernels and count choices that change: a second line per case with --json",
    )
    made.add_argument("--json", action="store_true", help="print one JSON object per case")
    made.add_argument("--small", action="store_true", help="one method, 60 steps: to see that it works")
    options = made.parse_args(arguments)
    methods, datasets = options.methods.split(","), options.datasets.split(",")
    if options.small:
        methods, datasets, options.steps, options.seeds = ["vsae"], ["yeast"], 60, 2
    outcomes: list[Outcome] = []
    flips: list[str] = []
    for dataset in datasets:
        for method in methods:
            case = Case(dataset, method, options.mechanism, options.ratio, options.seeds, options.steps)
            outcomes.append(outcome_of(case))
            print(outcomes[-1].as_line(), file=sys.stdout if options.json else sys.stderr, flush=True)
            if options.flips:
                changed = flips_of(outcomes[-1], outcome_elsewhere(case))
                flips += flip_lines(case, changed)
                if options.json:
                    print(json.dumps({"case": vars(case), "flips": changed}), flush=True)
    if not options.json:
        print("\n".join([*table_of(outcomes), *flips, *(f"{rule}: {MEANING[rule]}" for rule in RULES)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
