"""The checks of a method: each catches a toy that is broken in one way, and sound methods pass them all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from bench.api import Attribute, BenchError, Incomplete, Method, Schema, Table, Values, fill_hidden, observed_statistics
from bench.conformance.draws import DRAW_CHECKS
from bench.conformance.large import LARGE_METHOD_CHECKS, large_example
from bench.conformance.method import METHOD_CHECKS
from bench.conformance.suite import Outcome, Tried, run_checks
from bench.conformance.tables import TABLES
from bench.conformance.trial import Trial
from tests.conformance_toys import MIXED, Sound, SoundFrame, SoundStack, edited, nudged, outcomes

#: They have toys of their own, in ``test_draws``.
DRAW_NAMES = {check.__name__ for check in DRAW_CHECKS}


class ReadsTheStore(Sound):
    """Uses the true mean of a training column, hidden entries and all."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return nudged(data, super().impute(data, draws), np.nanmean(self.train._table.scalars[self.train._rows[0], 0]))


class LearnsFromTestRows(Sound):
    """Uses the numbers of rows that are neither for training nor for validation."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        known = np.concatenate([train._rows[0], validation._rows[0]])
        self.secret = np.nansum(np.delete(train._table.scalars[:, 0], known))

    def impute(self, data: Incomplete, draws: int) -> Values:
        return nudged(data, super().impute(data, draws), self.secret)


class RefitsOnWhatItImputes(Sound):
    """Calls itself inductive and takes its statistics from the rows it is given."""

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame | Values:
        return fill_hidden(data.values(), data.observed[0], observed_statistics(data))


class ChangesObservedEntries(Sound):
    """Rounds what it returns to single precision."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return edited(super().impute(data, draws), lambda scalars: scalars.astype(np.float32))


class HasNoSeed(Sound):
    """Draws from NumPy's global generator."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return nudged(data, super().impute(data, draws), np.random.random())


class LeavesNaN(Sound):
    """Returns what it was given."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return data.values()


class AveragesCodes(Sound):
    """Puts a code between two levels."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return nudged(data, super().impute(data, draws), -0.5, column=1)


class InventsALevel(Sound):
    """Puts the code of a level there is not."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return nudged(data, super().impute(data, draws), 3.0, column=1)


class ClearsTheMask(Sound):
    """Changes the mask of the training view."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        train.observed[0, 0] = False


class WritesToTheStore(Sound):
    """Changes the data themselves."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        train._table.scalars[train._rows[0, 0]] = 0.0


class DescribesItselfInWords(Sound):
    """Returns diagnostics that are no dict."""

    def diagnostics(self) -> list[dict[str, Any]]:
        return ["all went well"]  # type: ignore[list-item]


class CrashesOnAnEmptyRow(Sound):
    """Needs an observed entry in each row."""

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame | Values:
        if not data.observed[0].any(axis=1).all():
            raise ValueError("a row has nothing")
        return super().impute(data, draws)


class NeedsSomethingHidden(Sound):
    """Needs a hidden entry in the training rows."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        if train.observed.all():
            raise ValueError("nothing to learn from")


class DividesByTheCount(Sound):
    """Fills a column that was never observed with the number of such columns."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return nudged(data, super().impute(data, draws), np.sum(self.statistics.count == 0))


class CrashesOnOneRow(Sound):
    """Drops the dimension of a single row."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return edited(super().impute(data, draws), lambda scalars: scalars[0] if len(scalars) == 1 else scalars)


class CrashesOnOneTrainingRow(Sound):
    """Fails on a single training row without saying why."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        1 / (len(train) - 1)


class RefusesAtLength(Sound):
    """Says why, in two lines."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        if len(train) == 1:
            raise BenchError("too few rows:\n1")


class NeedsTwoAttributes(Sound):
    """Looks at the second column."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        train.values().scalars[:, 1]


class DividesByTheDeviation(Sound):
    """Gives NaN where a column is constant."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        deviation = self.statistics.standard_deviation[0]
        return nudged(data, super().impute(data, draws), 0.0 / deviation)


class CrashesOnAnUnseenLevel(Sound):
    """Looks levels up among those of the training rows."""

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame | Values:
        for column in data.schema.scalar_columns("categorical"):
            codes = data.values().scalars[:, column]
            codes = codes[~np.isnan(codes)].astype(int)
            if self.statistics.count[column] and not self.statistics.level_counts[column][codes].all():
                raise KeyError("unknown level")
        return super().impute(data, draws)


class SharesAcrossTheStack(SoundStack):
    """Adds the number of other replicas to what it imputes."""

    def impute_many(self, data: Incomplete, draws: int) -> list[Values]:
        found = super().impute_many(data, draws)
        return [nudged(data.replica(r), values, data.replicas - 1) for r, values in enumerate(found)]


class ForgetsAReplica(SoundStack):
    """Returns two replicas at most."""

    def impute_many(self, data: Incomplete, draws: int) -> list[Values]:
        return super().impute_many(data, draws)[:2]


class HasABadSet(LeavesNaN):
    """Is sound with its default parameters only."""

    parameter_sets = {"default": {"fill": True}, "bad": {"fill": False}}

    def impute(self, data: Incomplete, draws: int) -> Values:
        left = super().impute(data, draws)
        return fill_hidden(left, data.observed[0], self.statistics) if self.parameters["fill"] else left


class CastsBeforeItScales(Sound):
    """Keeps its means in float32, which holds little of a number far from 0."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        filled = fill_hidden(data.values(), data.observed[0], self.statistics)
        cast = filled.scalars.astype(np.float32).astype(np.float64)
        hidden = ~data.observed[0][:, data.schema.scalar_indices]
        return Values(np.where(hidden, cast, filled.scalars), filled.blocks)


class DropsARow(SoundFrame):
    """Returns a row too few."""

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame:
        return super().impute(data, draws).iloc[1:]


class NamesAnotherLevel(SoundFrame):
    """Returns a level that is not in the schema."""

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame:
        return super().impute(data, draws).replace({"level 0": "level zero"})


class ReturnsAnArray(Sound):
    """Returns neither a DataFrame nor Values."""

    def impute(self, data: Incomplete, draws: int) -> Values:
        return data.values().scalars  # type: ignore[return-value]


@pytest.mark.parametrize("method", [Sound, SoundFrame, SoundStack])
@pytest.mark.parametrize("protocol", ["inductive", "transductive"])
def test_a_sound_method_passes_every_check(method: type[Method], protocol: str) -> None:
    for table in TABLES:
        if set(TABLES[table]) <= set(method.kinds):
            found = outcomes(method, table, protocol)
            assert [o for o in found.values() if o.status == "failed"] == []
            passed = {name for name, outcome in found.items() if outcome.status == "ok"}
            if table == MIXED and protocol == "inductive":
                left_out = ["other_parameter_sets", "stack_agrees_with_each_alone"][: 1 if method is SoundStack else 2]
                assert passed == set(found) - set(left_out) - DRAW_NAMES


BROKEN: tuple[tuple[type[Method], str, str], ...] = (
    (ReadsTheStore, "hidden_values_change_nothing", "changed with values that are hidden: 'numeric0' differs"),
    (LearnsFromTestRows, "rows_to_impute_are_not_learned_from", "changed with the test rows in the store"),
    (RefitsOnWhatItImputes, "rows_are_imputed_one_by_one", "changed with another row's values"),
    (ChangesObservedEntries, "observed_entries_are_untouched", "came back changed"),
    (HasNoSeed, "seed_decides_everything", "a second run with the same seed differs"),
    (LeavesNaN, "no_nan_comes_out", "'numeric0' is NaN or infinite in"),
    (AveragesCodes, "categories_are_valid", "'categorical1' has code 1.5; its levels are 0 to 2"),
    (InventsALevel, "categories_are_valid", "'categorical1' has code 5; its levels are 0 to 2"),
    (NamesAnotherLevel, "categories_are_valid", "holds category 'level zero'"),
    (ClearsTheMask, "views_are_left_alone", "it changed the mask of a view"),
    (WritesToTheStore, "views_are_left_alone", "it changed the data in the store"),
    (DescribesItselfInWords, "diagnostics_can_be_stored", "one dict per replica"),
    (CrashesOnAnEmptyRow, "rows_with_nothing_observed", "ValueError: a row has nothing (test_method.py:"),
    (NeedsSomethingHidden, "nothing_is_missing", "ValueError: nothing to learn from"),
    (NeedsSomethingHidden, "training_rows_are_complete", "ValueError: nothing to learn from"),
    (DividesByTheCount, "everything_is_missing", "'numeric0' differs in 10 of 10 rows: 4 against 0"),
    (CrashesOnOneRow, "one_row_is_imputed", "the imputed values of 'scalars' have shape (4,), not (1, 4)"),
    (CrashesOnOneTrainingRow, "one_training_row_is_enough_or_refused", "ZeroDivisionError: division by zero"),
    (RefusesAtLength, "one_training_row_is_enough_or_refused", "the message must be one line"),
    (NeedsTwoAttributes, "one_attribute_is_enough", "IndexError"),
    (DividesByTheDeviation, "constant_column", "'numeric0' is NaN or infinite"),
    (DividesByTheCount, "never_observed_in_training", "not the declared fill: 'numeric0' differs"),
    (CrashesOnAnUnseenLevel, "categories_unseen_in_training", "KeyError: 'unknown level'"),
    (SharesAcrossTheStack, "stack_agrees_with_each_alone", "replica 0 differs in a stack: 'numeric0' differs"),
    (ForgetsAReplica, "stack_agrees_with_each_alone", "returned 2 imputations for 3 replicas"),
    (HasABadSet, "other_parameter_sets", "parameter set 'bad': 'numeric0' is NaN"),
    (CastsBeforeItScales, "units_change_nothing", "with 1e+08 added to the numbers an entry moved by "),
    (DropsARow, "seed_decides_everything", "have shape (9, 4), not (10, 4)"),
    (ReturnsAnArray, "no_nan_comes_out", "impute returned ndarray, not a DataFrame or Values"),
)


@pytest.mark.parametrize(("method", "check", "reason"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_each_check_catches_what_it_is_for(method: type[Method], check: str, reason: str) -> None:
    outcome = outcomes(method)[check]
    assert outcome.status == "failed"
    assert reason in outcome.reason


def test_what_is_wrong_in_one_way_fails_one_check() -> None:
    alone = {
        DescribesItselfInWords: "diagnostics_can_be_stored",
        RefusesAtLength: "one_training_row_is_enough_or_refused",
        CrashesOnOneRow: "one_row_is_imputed",
        NeedsTwoAttributes: "one_attribute_is_enough",
        SharesAcrossTheStack: "stack_agrees_with_each_alone",
        HasABadSet: "other_parameter_sets",
        CastsBeforeItScales: "units_change_nothing",
        ClearsTheMask: "views_are_left_alone",
    }
    for method, broken in alone.items():
        failed = {name for name, outcome in outcomes(method).items() if outcome.status == "failed"}
        assert failed == {broken}, method


def test_every_check_has_a_toy() -> None:
    caught = {check for _, check, _ in BROKEN}
    # Infinities never get as far as a method; the test below opens the door to them.
    assert {check.__name__ for check in METHOD_CHECKS} - caught - DRAW_NAMES == {"infinities_are_refused"}


@pytest.mark.parametrize("table", ["numbers", "features"])
def test_infinities_are_caught_where_a_table_is_made(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes(Sound, table)["infinities_are_refused"].status == "ok"
    assert outcomes(Sound, "image and label")["infinities_are_refused"].status == "not applicable"
    monkeypatch.setattr(Table, "__post_init__", lambda self: None)
    outcome = outcomes(Sound, table)["infinities_are_refused"]
    assert outcome.status == "failed" and outcome.reason == "it was let through"


def test_a_table_refuses_infinite_numbers_and_features_by_name() -> None:
    schema = Schema((Attribute("size", "numeric"), Attribute("sound", "features", shape=(2,))))
    present = np.ones((3, 2), dtype=bool)
    numbers, features = np.arange(3.0)[:, None], np.zeros((3, 2), dtype=np.float32)
    Table(schema, np.where(numbers == 1, np.nan, numbers), {"sound": features}, present)
    with pytest.raises(BenchError, match="'size' holds an infinite value"):
        Table(schema, np.where(numbers == 1, -np.inf, numbers), {"sound": features}, present)
    features[1, 1] = np.inf
    with pytest.raises(BenchError, match="'sound' holds an infinite value"):
        Table(schema, numbers, {"sound": features}, present)
    with pytest.raises(BenchError, match="'size' holds an infinite value"):
        Table.from_frame(pd.DataFrame({"size": [1.0, np.inf]}))


def test_a_transductive_method_is_not_asked_what_only_an_inductive_one_can_do() -> None:
    found = outcomes(RefitsOnWhatItImputes, protocol="transductive")
    assert found["rows_are_imputed_one_by_one"].status == "not applicable"
    assert found["rows_to_impute_are_not_learned_from"].status == "not applicable"
    assert {outcome.status for outcome in found.values()} == {"ok", "not applicable"}


# What the runner fills


class LeavesWhatNobodyCanKnow(Sound):
    """Leaves NaN in columns never observed in training and in rows that show nothing, and learns from no empty view."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        if not train.observed.any():
            raise IndexError("nothing to learn from")

    def impute(self, data: Incomplete, draws: int) -> Values:
        observed = data.observed[0]
        known = ~self.statistics.never_observed & observed.any(axis=1, keepdims=True)
        return fill_hidden(data.values(), observed | ~known, self.statistics)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("protocol", ["inductive", "transductive"])
def test_a_method_need_not_fill_what_nobody_can_know(table: str, protocol: str) -> None:
    found = outcomes(LeavesWhatNobodyCanKnow, table, protocol)
    assert [outcome for outcome in found.values() if outcome.status == "failed"] == []


# Wide tables


class TakesFifty(Sound):
    """Takes fifty columns and says so."""

    max_attributes: ClassVar[int | None] = 50

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        if len(train.schema) > 50:
            raise MemoryError


class TakesFiftyButDoesNotSay(TakesFifty):
    """Takes fifty columns and does not say so."""

    max_attributes = None


def wide_outcome(method: type[Method]) -> Outcome:
    """Return the outcome of the check on a wide table."""
    example = large_example(method)
    (outcome,) = run_checks(LARGE_METHOD_CHECKS, [Tried(Trial(method, "inductive", example), example.name)], Path("."))
    return outcome


def test_a_wide_table_is_as_wide_as_a_method_says_it_takes() -> None:
    began = time.perf_counter()
    assert wide_outcome(Sound).tables == ("10000 columns",)
    assert time.perf_counter() - began < 20
    assert (wide_outcome(TakesFifty).status, wide_outcome(TakesFifty).tables) == ("ok", ("50 columns",))
    assert wide_outcome(TakesFiftyButDoesNotSay).status == "failed"
