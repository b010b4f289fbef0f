"""The checks that every method inherits, each with the contract it rests on and how to mend what breaks it.

A method is run on generated tables of some 50 rows of the kinds it declares, at the ``smoke`` budget, under each
protocol it declares, on one thread. The contract:

- A view (``bench.api.Incomplete``) is all a method may look at; ``_table`` and other private names hold the truth.
- ``impute`` returns a DataFrame with the schema's columns, or ``Values``, for the rows it was given, in their order.
- All randomness comes from ``seed``: ``bench.api.generator("my_method", seed)`` gives a NumPy generator.
- What no method can know may be left NaN: the runner fills it, and so do these checks (``bench.problem.complete``).
  These are hidden entries of an attribute without one observed training entry, which get the declared fill (0, the
  first level, an image or features of 0), and of a row that shows nothing, which get the mean, mode or mean image. A
  method that fills an attribute without one observed training entry itself must give it the declared fill.
- An *inductive* method learns from the training view alone and imputes each row from that row's own observed entries.
- ``sample``, which is optional, returns draws of complete rows from the random stream that its ``seed`` names
  (``bench.conformance.draws``).
- ``diagnostics`` returns one dict of JSON values per replica, or an empty list.

A method whose cost forbids a table of 10,000 columns declares ``max_attributes``, is tried at that width instead, and
is skipped, with the reason in the row, on wider tables. ``max_width`` does the same for columns as encoded, one per
level of a category.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.conformance.draws import DRAW_CHECKS
from bench.conformance.require import (
    Failed,
    NotApplicable,
    require_finite,
    require_levels,
    require_observed,
    require_one_line,
    require_same,
)
from bench.conformance.tables import (
    Example,
    first_of_each_kind,
    poisoned,
    with_constant_columns,
    with_first_attribute_alone,
    with_levels_for_test_rows_only,
    with_other_rows_among_those_to_impute,
    without_gaps,
)
from bench.conformance.trial import SEED, Trial, answers, require_declared_fill, require_survived
from bench.data.statistics import observed_statistics
from bench.data.table import Table, Values
from bench.errors import BenchError
from bench.plugins.contracts import StackedMethod
from bench.seeds import generator

#: Standard deviations that an imputed number may move by where only its unit changed.
UNIT_TOLERANCE = 0.05


def hidden_values_change_nothing(trial: Trial) -> None:
    """Hidden values change nothing, bit for bit.

    Hidden entries of the store, and cells its source does not have, are replaced by NaN and noise.

    Mend: read the data through ``frame``, ``values``, ``scalars``, ``observed_block`` and ``tensors`` alone.
    """
    one = trial.example.replica(0)
    table = poisoned(one.table, ~one.known, generator("conformance poison"))
    values = trial.impute(replace(one, table=table))
    require_same(table.schema, values, trial.values, "the output changed with values that are hidden")


def rows_to_impute_are_not_learned_from(trial: Trial) -> None:
    """The rows to impute are not learned from.

    They are replaced as a whole while it fits, observed entries and all.

    Mend: learn in ``fit`` from ``train`` and ``validation`` alone, or declare the protocol ``transductive``.
    """
    if trial.protocol != "inductive":
        raise NotApplicable("it refits on the rows it is given")
    one = trial.example.replica(0)
    unseen = np.ones(one.known.shape, dtype=bool)
    unseen[np.concatenate([one.train[0], one.validation[0]])] = False
    table = poisoned(one.table, unseen, generator("conformance poison"))
    values = trial.impute(one, learned=replace(one, table=table))
    require_same(table.schema, values, trial.values, "the output changed with the test rows in the store during fit")


def rows_are_imputed_one_by_one(trial: Trial) -> None:
    """Each row is imputed on its own.

    Every second row to impute gets other values under the same mask; the rest must not change.

    Mend: take statistics in ``fit``, not in ``impute``, or declare the protocol ``transductive``.
    """
    if trial.protocol != "inductive":
        raise NotApplicable("it refits on the rows it is given")
    changed = with_other_rows_among_those_to_impute(trial.example.replica(0))
    entries = np.zeros(trial.data.observed[0].shape, dtype=bool)
    entries[::2] = True
    values = trial.impute(changed)
    require_same(trial.data.schema, values, trial.values, "a row's output changed with another row's values", entries)


def observed_entries_are_untouched(trial: Trial) -> None:
    """Observed entries come back untouched.

    Mend: write to hidden entries only; return the others in float64 as ``values`` gives them.
    """
    require_observed(trial.values, trial.data)


def seed_decides_everything(trial: Trial) -> None:
    """The same seed gives the same values.

    Mend: draw from ``bench.api.generator(name, seed)``, and pass ``random_state`` to the libraries you call.
    """
    again = trial.impute(trial.example)
    require_same(trial.data.schema, again, trial.values, "a second run with the same seed differs")


def no_nan_comes_out(trial: Trial) -> None:
    """No NaN and no infinity comes out.

    Mend: fill what is left with ``bench.api.fill_hidden``: the mean, the mode or the mean image.
    """
    require_finite(trial.values, trial.data.schema)


def categories_are_valid(trial: Trial) -> None:
    """Categories are codes of levels.

    Mend: return levels of ``schema.attributes[i].levels`` in a DataFrame, their positions 0, 1, ... in ``Values``.
    """
    if not len(trial.data.schema.of_kind("categorical")):
        raise NotApplicable("it takes no categories")
    require_levels(trial.values, trial.data.schema)


def views_are_left_alone(trial: Trial) -> None:
    """The views it is given are left as they were.

    Mend: copy ``observed`` before you change it; what ``frame`` and ``values`` return is yours.
    """
    if trial.first_run.changed:
        raise Failed(f"it changed {trial.first_run.changed}")


def diagnostics_can_be_stored(trial: Trial) -> None:
    """Diagnostics are one dict per replica, or none.

    Mend: return ``[{"name": value}]`` with JSON values, or leave ``diagnostics`` out.
    """
    diagnostics = trial.first_run.method.diagnostics()
    if not isinstance(diagnostics, list) or len(diagnostics) > 1 or not all(isinstance(d, dict) for d in diagnostics):
        raise Failed("diagnostics must return a list with one dict per replica, or an empty one")


def rows_with_nothing_observed(trial: Trial) -> None:
    """Rows with nothing observed.

    Mend: leave such rows to impute NaN, and such training rows out.
    """
    hidden = np.zeros(trial.example.observed.shape, dtype=bool)
    for rows in (trial.example.train, trial.example.validation, trial.example.test):
        hidden[0, rows[0, :3]] = True
    require_survived(trial, trial.example.hiding(hidden))


def nothing_is_missing(trial: Trial) -> None:
    """A complete table comes back as it is.

    Mend: return what you were given if nothing is hidden.
    """
    example = without_gaps(trial.example)
    require_survived(trial, replace(example, observed=np.ones_like(example.observed)))


def training_rows_are_complete(trial: Trial) -> None:
    """Training rows without a hole, and rows to impute with holes.

    Mend: be ready to impute attributes of which no training entry is hidden.
    """
    example = without_gaps(trial.example)
    observed = example.observed.copy()
    observed[0, np.concatenate([example.train[0], example.validation[0]])] = True
    require_survived(trial, replace(example, observed=observed))


def everything_is_missing(trial: Trial) -> None:
    """A table with every entry missing gets the declared fill.

    Mend: leave NaN, raise, or fill with 0 and the first level.
    """
    hidden = trial.example.hiding(np.ones((), dtype=bool))
    require_declared_fill(trial, hidden, list(range(len(hidden.table.schema))))


def one_row_is_imputed(trial: Trial) -> None:
    """A single row to impute.

    Mend: keep the dimension of rows; ``squeeze`` and ``values[0]`` drop it.
    """
    row = trial.example.test[:, :1]
    alone = replace(trial.example, test=row)
    require_survived(trial, alone if trial.protocol == "inductive" else replace(alone, train=row, validation=row))


def one_training_row_is_enough_or_refused(trial: Trial) -> None:
    """A single training row, learned from or refused with one line.

    Mend: raise ``BenchError`` with one line if the rows are too few to learn from.
    """
    if trial.protocol != "inductive":
        raise NotApplicable("it refits on the rows it is given")
    try:
        require_survived(trial, replace(trial.example, train=trial.example.train[:, :1]))
    except BenchError as error:
        require_one_line(error)


def one_attribute_is_enough(trial: Trial) -> None:
    """A single attribute.

    Mend: impute the floor (``bench.api.fill_hidden``) if there is no other attribute to impute from.
    """
    require_survived(trial, with_first_attribute_alone(trial.example))


def constant_column(trial: Trial) -> None:
    """Columns that hold one value only.

    Mend: divide by ``observed_statistics(train).scale``, which is 1 for a column that does not vary.
    """
    require_survived(trial, with_constant_columns(trial.example))


def never_observed_in_training(trial: Trial) -> None:
    """Columns never observed in training get the declared fill.

    Mend: leave them NaN, or fill them with 0 and the first level.
    """
    example = trial.example
    columns = first_of_each_kind(example.table.schema)
    hidden = np.zeros(example.observed.shape, dtype=bool)
    rows = np.concatenate([example.train[0], example.validation[0]])
    rows = np.arange(len(example.table)) if trial.protocol == "transductive" else rows
    hidden[0, rows[:, None], columns] = True
    require_declared_fill(trial, example.hiding(hidden), columns)


def categories_unseen_in_training(trial: Trial) -> None:
    """Categories that do not occur in training.

    Mend: size tables of levels by the schema, not by the levels that occur.
    """
    example = with_levels_for_test_rows_only(trial.example)
    if example is None:
        raise NotApplicable("it takes no categories")
    require_survived(trial, example)


def units_change_nothing(trial: Trial) -> None:
    """A constant added to numbers, or another unit, changes nothing else.

    Numbers get 1e8 added (a Julian day has 2.45e6), and are multiplied by 1e-12 and by 1e12. What is imputed follows
    them to a twentieth of a standard deviation (training carries rounding further), or is the same whatever they are.

    Mend: standardise with ``observed_statistics(train)`` in float64 before anything is cast to float32.
    """
    example = trial.example.replica(0)
    columns = example.table.schema.scalar_columns("numeric")
    if not len(columns):
        raise NotApplicable("it takes no numbers")
    statistics = observed_statistics(example.train_view(trial.protocol))
    expected = trial.values.scalars[:, columns]
    hidden = ~trial.data.observed[0][:, example.table.schema.scalar_indices[columns]]
    for offset, unit in ((1e8, 1.0), (0.0, 1e-12), (0.0, 1e12)):
        numbers = trial.impute(example.with_numbers(offset, unit)).scalars[:, columns]
        if np.array_equal(numbers[hidden], expected[hidden]):
            continue
        distance = np.abs((numbers - offset) / unit - expected) / statistics.scale[columns]
        if not float(distance.max(initial=0.0)) <= UNIT_TOLERANCE:
            said = f"with numbers multiplied by {unit:g}" if offset == 0 else f"with {offset:g} added to the numbers"
            raise Failed(f"{said} an entry moved by {distance.max():.2g} standard deviations")


def infinities_are_refused(trial: Trial) -> None:
    """Infinities in the input are refused with one line that names the column.

    Mend: nothing in a method; a table refuses them when it is made.
    """
    table = trial.example.table
    finite = [a for a in table.schema.attributes if a.kind in ("numeric", "features")]
    if not finite:
        raise NotApplicable("it takes no attributes that can be infinite")
    name = finite[0].name
    index = table.schema.names.index(name)
    present = table.present.copy()
    present[trial.example.train[0, 0], index] = True
    scalars, blocks = table.scalars.copy(), {block: array.copy() for block, array in table.blocks.items()}
    if finite[0].kind == "numeric":
        scalars[trial.example.train[0, 0], int(np.flatnonzero(table.schema.scalar_indices == index)[0])] = np.inf
    else:
        blocks[name][trial.example.train[0, 0], 0] = -np.inf
    try:
        infinite = Table(table.schema, scalars, blocks, present)
        trial.impute(replace(trial.example, table=infinite))
    except BenchError as error:
        require_one_line(error)
        if name not in str(error):
            raise Failed(f"the message does not name '{name}': {error}") from None
    else:
        raise Failed("it was let through")


def stack_agrees_with_each_alone(trial: Trial) -> None:
    """A replica alone and in a stack agree, bit for bit.

    Mend: draw from one generator per replica, and let nothing depend on the number of replicas.
    """
    if not issubclass(trial.method, StackedMethod):
        raise NotApplicable("it does not stack")
    example, schema = trial.example, trial.example.table.schema
    seeds = [SEED + replica for replica in range(len(example.train))]

    def run(problem: Example, own_seeds: list[int]) -> list[Values]:
        views = (problem.train_view(trial.protocol), problem.validation_view(), problem.data_view(trial.protocol))
        return answers(trial.instance(), *views, own_seeds)

    together = run(example, seeds)
    for replica in (0, len(seeds) - 1):
        (alone,) = run(example.replica(replica), [seeds[replica]])
        require_same(schema, together[replica], alone, f"replica {replica} differs in a stack")


def other_parameter_sets(trial: Trial) -> None:
    """The other parameter sets: valid values, and hidden ones change nothing.

    Mend: keep every path that a parameter set opens to the same contract.
    """
    others = {name: own for name, own in trial.method.parameter_sets.items() if name != "default"}
    if trial.parameters is not None or not others:
        raise NotApplicable("it has the default set only")
    for name, parameters in others.items():
        other = replace(trial, parameters=parameters)
        try:
            require_finite(other.values, trial.data.schema)
            require_levels(other.values, trial.data.schema)
            require_observed(other.values, trial.data)
            hidden_values_change_nothing(other)
        except Failed as error:
            raise Failed(f"parameter set '{name}': {error}") from None


MethodCheck = Callable[[Trial], None]

METHOD_CHECKS: tuple[MethodCheck, ...] = (
    hidden_values_change_nothing,
    rows_to_impute_are_not_learned_from,
    rows_are_imputed_one_by_one,
    observed_entries_are_untouched,
    seed_decides_everything,
    no_nan_comes_out,
    categories_are_valid,
    views_are_left_alone,
    diagnostics_can_be_stored,
    rows_with_nothing_observed,
    nothing_is_missing,
    training_rows_are_complete,
    everything_is_missing,
    one_row_is_imputed,
    one_training_row_is_enough_or_refused,
    one_attribute_is_enough,
    constant_column,
    never_observed_in_training,
    categories_unseen_in_training,
    units_change_nothing,
    infinities_are_refused,
    stack_agrees_with_each_alone,
    other_parameter_sets,
    *DRAW_CHECKS,
)
