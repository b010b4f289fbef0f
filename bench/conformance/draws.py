"""The checks of what a method draws, if it defines ``sample`` (``sample_many`` if it stacks).

Draws are complete rows, as an imputation is; they come from the random stream that their seed names, and what they are
drawn given is what a row shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.conformance.require import (
    Failed,
    NotApplicable,
    complete_values,
    difference,
    require_finite,
    require_levels,
    require_observed,
    require_same,
)
from bench.conformance.tables import Example, poisoned
from bench.conformance.trial import SEED, Trial, answers
from bench.data.table import Values
from bench.plugins.contracts import Method, StackedMethod
from bench.problem.complete import complete
from bench.problem.draws import draws_samples, samples
from bench.seeds import generator

#: How many draws are asked for, and the streams they come from.
DRAWS, STREAM, OTHER_STREAM = 3, 5, 6


def draws_are_complete_rows(trial: Trial) -> None:
    """Draws are complete rows: valid values, observed entries untouched.

    Mend: return a list of ``draws`` ``Values`` from ``sample``, each as ``impute`` would.
    """
    schema = trial.data.schema
    for values in _drawn(trial, _fitted(trial, trial.example)):
        require_finite(values, schema)
        require_levels(values, schema)
        require_observed(values, trial.data)


def draws_follow_their_seed(trial: Trial) -> None:
    """Draws follow their seed and change no imputation.

    The same seed gives the same draws, and another seed others.

    Mend: draw in ``sample`` from ``bench.api.generator(name, own_seed, seed)``, made anew in every call.
    """
    method, schema = _fitted(trial, trial.example), trial.data.schema
    first, again, other = (_drawn(trial, method, stream) for stream in (STREAM, STREAM, OTHER_STREAM))
    for one, same in zip(first, again, strict=True):
        require_same(schema, same, one, "a second call with the same seed differs")
    pairs = zip(first, other, strict=True)
    if not trial.data.observed.all() and not any(difference(schema, one, another) for one, another in pairs):
        raise Failed("another seed gives the same draws")
    imputed = method.impute(trial.data, method.context.budget.draws)
    expected = complete_values(imputed, trial.data)
    fitted_on = trial.example.replica(0).train_view(trial.protocol)
    values = complete(expected, trial.data, fitted_on)[0]
    require_same(schema, values, trial.values, "the imputation after drawing differs")


def hidden_values_change_no_draw(trial: Trial) -> None:
    """Hidden values change no draw, bit for bit.

    Mend: look in ``sample`` at what ``frame``, ``values``, ``scalars`` and ``tensors`` give, as in ``impute``.
    """
    one = trial.example.replica(0)
    table = poisoned(one.table, ~one.known, generator("conformance poison"))
    blind = replace(one, table=table)
    drawn, expected = _drawn(trial, _fitted(trial, blind), example=blind), _drawn(trial, _fitted(trial, one))
    for found, own in zip(drawn, expected, strict=True):
        require_same(one.table.schema, found, own, "a draw changed with values that are hidden")


def draws_of_a_stack_agree_with_each_alone(trial: Trial) -> None:
    """The draws of a replica alone and in a stack agree, bit for bit.

    Mend: name the fit's own seed of a replica in its stream, and draw replica by replica.
    """
    _require_draws(trial)
    if not issubclass(trial.method, StackedMethod):
        raise NotApplicable("it does not stack")
    example, schema = trial.example, trial.example.table.schema
    seeds = [SEED + replica for replica in range(len(example.train))]

    def run(problem: Example, own_seeds: Sequence[int]) -> Sequence[Sequence[Values]]:
        method, data = trial.instance(), problem.data_view(trial.protocol)
        answers(method, problem.train_view(trial.protocol), problem.validation_view(), data, own_seeds)
        return samples(method, data, DRAWS, STREAM)

    together = run(example, seeds)
    for replica in (0, len(seeds) - 1):
        (alone,) = run(example.replica(replica), [seeds[replica]])
        for one, other in zip(together[replica], alone, strict=True):
            require_same(schema, one, other, f"a draw of replica {replica} differs in a stack")


def _require_draws(trial: Trial) -> None:
    if not draws_samples(trial.method):
        raise NotApplicable("it draws no samples")


def _fitted(trial: Trial, example: Example) -> Method:
    """Return the method after it has imputed the first replica of an example; raises NotApplicable if it draws none."""
    _require_draws(trial)
    one, method = example.replica(0), trial.instance()
    views = (one.train_view(trial.protocol), one.validation_view(), one.data_view(trial.protocol))
    answers(method, *views, [SEED])
    return method


def _drawn(trial: Trial, method: Method, stream: int = STREAM, example: Example | None = None) -> list[Values]:
    """Return what a fitted method draws for the first replica, completed as the runner does."""
    one = (example or trial.example).replica(0)
    data, fitted_on = one.data_view(trial.protocol), one.train_view(trial.protocol)
    (found,) = samples(method, data, DRAWS, stream)
    return [complete(complete_values(values, data, "sample"), data, fitted_on)[0] for values in found]


DRAW_CHECKS = (
    draws_are_complete_rows,
    draws_follow_their_seed,
    hidden_values_change_no_draw,
    draws_of_a_stack_agree_with_each_alone,
)
