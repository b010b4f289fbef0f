"""The mechanisms meet their ratio, depend on what their name says, and refuse what they cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.api import Attribute, FloatArray, Mechanism, Schema, Values
from bench.errors import BenchError
from bench.problem.mechanisms import (
    Mar,
    Mcar,
    Nmar,
    NmarCensor,
    NmarLogistic,
    calibrated_probability,
    draw_observed,
    maskable_columns,
    realised_ratio,
    realised_shares,
    resolve_parameters,
)

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
ALL = (Mcar, Mar, Nmar, NmarLogistic, NmarCensor)
LEVELS = ("a", "b", "c", "d")


def mixed_data(rows: int = 900, seed: int = 0) -> tuple[Values, Schema]:
    """Return skewed, constant, discrete and categorical columns with a few cells that the source does not have."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.lognormal(0, 2, rows),
        rng.standard_cauchy(rows),
        np.full(rows, 0.1),
        rng.poisson(0.3, rows).astype(float),
        (rng.random(rows) < 0.02).astype(float),
        rng.normal(5, 3, rows),
        rng.choice(4, rows, p=[0.9, 0.05, 0.04, 0.01]).astype(float),
        np.zeros(rows),
        rng.integers(0, 4, rows).astype(float),
    ]
    scalars = np.stack(columns, axis=1)
    scalars[rng.random(rows) < 0.2, 5] = np.nan
    scalars[rng.random(rows) < 0.1, 8] = np.nan
    attributes = [
        Attribute(f"x{j}", "categorical", levels=LEVELS) if j in (6, 7, 8) else Attribute(f"x{j}", "numeric")
        for j in range(len(columns))
    ]
    return Values(scalars), Schema(tuple(attributes))


def numbers(scalars: np.ndarray) -> tuple[Values, Schema]:
    """Return numeric columns with their schema."""
    return Values(scalars), Schema(tuple(Attribute(f"x{j}", "numeric") for j in range(scalars.shape[1])))


def probabilities(
    mechanism: Mechanism, values: Values, schema: Schema, ratio: float, **parameters: object
) -> FloatArray:
    """Return the mechanism's probabilities under one fixed seed."""
    return mechanism.missing_probability(values, schema, ratio, np.random.default_rng(7), **parameters)


def image_data() -> tuple[Values, Schema]:
    """Return a number beside an image."""
    schema = Schema((Attribute("number", "numeric"), Attribute("photo", "image", shape=(2, 2))))
    return Values(np.arange(5.0)[:, None], {"photo": np.zeros((5, 4), dtype=np.uint8)}), schema


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("mechanism", [kind() for kind in ALL], ids=lambda m: m.name)
def test_mean_probability_is_the_ratio_in_every_maskable_column(mechanism: Mechanism, ratio: float) -> None:
    values, schema = mixed_data()
    probability = probabilities(mechanism, values, schema, ratio)
    present = ~np.isnan(values.scalars)
    assert probability.shape == present.shape
    assert probability.min() >= 0 and probability.max() <= 1
    mean = np.array([probability[present[:, j], j].mean() for j in range(len(schema))])
    maskable = maskable_columns(probability)
    assert np.abs(mean[maskable] - ratio).max() < 1e-3
    assert maskable.sum() == (6 if mechanism.name == "mar" else 9)
    constant = [j for j in (2, 7) if maskable[j] and mechanism.name in ("mcar", "nmar", "nmar_censor")]
    np.testing.assert_allclose(probability[:, constant], ratio, atol=1e-12)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("mechanism", [kind() for kind in ALL], ids=lambda m: m.name)
def test_realised_ratio_is_within_four_binomial_deviations(mechanism: Mechanism, ratio: float) -> None:
    values, schema = mixed_data()
    present = ~np.isnan(values.scalars)
    observed, probability = draw_observed(mechanism, values, schema, ratio, np.random.default_rng(3), present)
    cells = present[:, maskable_columns(probability)].sum()
    realised = realised_ratio(observed, present, probability)
    assert abs(realised - ratio) < 4 * np.sqrt(ratio * (1 - ratio) / cells)
    assert not (observed & ~present).any()


def test_realised_shares_by_hand() -> None:
    present = np.array([[True, True, False], [True, True, True], [True, True, True], [True, True, True]])
    observed = np.array([[False, True, False], [True, True, True], [False, True, True], [True, True, False]])
    probability = np.tile([0.5, 0.0, 0.5], (4, 1))
    shares = realised_shares(observed, present, probability)
    # Of 11 present entries 3 are hidden, of the 7 in the two maskable columns as many; 3 of 4 rows have one.
    assert shares == {"all": 3 / 11, "maskable": 3 / 7, "rows": 3 / 4}


@pytest.mark.parametrize(("attributes", "all_entries"), [(10, 0.35), (4, 0.375)])
def test_mar_at_a_half_hides_less_of_all_entries(attributes: int, all_entries: float) -> None:
    """What docs/masks.md says: 3 of 10 attributes decide and stay complete, or 1 of 4."""
    schema = Schema(tuple(Attribute(f"x{index}", "numeric") for index in range(attributes)))
    rng = np.random.default_rng(0)
    values, present = Values(rng.normal(size=(4000, attributes))), np.ones((4000, attributes), dtype=bool)
    observed, probability = draw_observed(Mar(), values, schema, 0.5, rng, present)
    shares = realised_shares(observed, present, probability)
    assert shares["all"] == pytest.approx(all_entries, abs=4 * np.sqrt(0.25 / (4000 * attributes)))
    assert shares["maskable"] == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / (2800 * attributes)))


def test_realised_ratio_by_hand() -> None:
    present = np.array([[True, True, True], [True, False, True], [True, True, True], [True, True, True]])
    observed = np.array([[True, False, True], [True, False, True], [True, True, True], [True, True, True]])
    probability = np.array([[0.0, 0.4, 0.0]] * 3 + [[0.0, 0.4, 0.1]])
    assert realised_ratio(observed, present, probability) == pytest.approx(1 / 7)
    assert realised_ratio(observed, present, np.zeros((4, 3))) == 0.0


def test_mar_depends_on_always_observed_columns_only() -> None:
    values, schema = mixed_data()
    before = probabilities(Mar(), values, schema, 0.5)
    drivers = ~maskable_columns(before)
    assert drivers.sum() == 3
    rng = np.random.default_rng(1)
    shuffled = np.stack([rng.permutation(column) for column in values.scalars.T], axis=1)
    np.copyto(shuffled, 0.0, where=np.isnan(shuffled))
    np.copyto(shuffled, np.nan, where=np.isnan(values.scalars))
    hidden_changed = np.where(drivers, values.scalars, shuffled)
    np.testing.assert_array_equal(probabilities(Mar(), Values(hidden_changed), schema, 0.5), before)
    drivers_changed = np.where(drivers, shuffled, values.scalars)
    assert np.abs(probabilities(Mar(), Values(drivers_changed), schema, 0.5) - before).max() > 0.1
    observed, _ = draw_observed(
        Mar(), values, schema, 0.5, np.random.default_rng(7), present := ~np.isnan(values.scalars)
    )
    np.testing.assert_array_equal(observed[:, drivers], present[:, drivers])


def test_self_masking_depends_on_the_hidden_value_of_its_own_column_only() -> None:
    rng = np.random.default_rng(0)
    values, schema = numbers(rng.lognormal(size=(400, 5)))
    before = probabilities(Nmar(), values, schema, 0.5)
    changed = values.scalars.copy()
    changed[:, 2] = changed[::-1, 2]
    after = probabilities(Nmar(), Values(changed), schema, 0.5)
    np.testing.assert_allclose(after[:, 2], before[::-1, 2], atol=1e-12)
    assert np.abs(after[:, 2] - before[:, 2]).max() > 0.1
    np.testing.assert_array_equal(np.delete(after, 2, axis=1), np.delete(before, 2, axis=1))


def test_self_masking_is_monotone_with_a_logit_of_unit_deviation_and_random_sign() -> None:
    rng = np.random.default_rng(0)
    values, schema = numbers(rng.normal(3, 20, size=(500, 40)))
    probability = probabilities(Nmar(), values, schema, 0.3)
    logit = np.log(probability / (1 - probability))
    np.testing.assert_allclose(logit.std(axis=0), 1.0, rtol=1e-9)
    correlation = [np.corrcoef(logit[:, j], values.scalars[:, j])[0, 1] for j in range(40)]
    np.testing.assert_allclose(np.abs(correlation), 1.0, rtol=1e-9)
    assert 8 < np.sum(np.array(correlation) > 0) < 32


def test_nmar_logistic_is_driven_by_columns_that_are_hidden_too() -> None:
    rng = np.random.default_rng(0)
    values, schema = numbers(rng.normal(size=(2000, 6)))
    probability = probabilities(NmarLogistic(), values, schema, 0.4)
    drivers = np.flatnonzero((probability == 0.4).all(axis=0))
    assert len(drivers) == 2
    others = np.setdiff1d(np.arange(6), drivers)
    logit = np.log(probability[:, others] / (1 - probability[:, others]))
    np.testing.assert_allclose(logit.std(axis=0), 1.0, rtol=1e-9)
    design = np.column_stack([np.ones(2000), values.scalars[:, drivers]])
    fitted = design @ np.linalg.lstsq(design, logit, rcond=None)[0]
    np.testing.assert_allclose(fitted, logit, atol=1e-9)
    observed, _ = draw_observed(
        NmarLogistic(), values, schema, 0.4, np.random.default_rng(7), np.ones((2000, 6), dtype=bool)
    )
    hidden_drivers = ~observed[:, drivers]
    assert 0.35 < hidden_drivers.mean() < 0.45
    changed = values.scalars.copy()
    changed[:, drivers] = np.where(hidden_drivers, changed[:, drivers] + 3.0, changed[:, drivers])
    assert np.abs(probabilities(NmarLogistic(), Values(changed), schema, 0.4) - probability).max() > 0.1


@pytest.mark.parametrize(("share", "columns", "driving"), [(0.3, 10, 3), (0.01, 10, 1), (0.99, 4, 3), (0.5, 2, 1)])
def test_share_of_driving_columns(share: float, columns: int, driving: int) -> None:
    values, schema = numbers(np.random.default_rng(0).normal(size=(50, columns)))
    probability = probabilities(Mar(), values, schema, 0.5, p_observed=share)
    assert (~maskable_columns(probability)).sum() == driving


def test_driving_columns_are_chosen_by_the_seed() -> None:
    values, schema = numbers(np.random.default_rng(0).normal(size=(50, 10)))
    chosen = {
        tuple(~maskable_columns(Mar().missing_probability(values, schema, 0.5, np.random.default_rng(seed))))
        for seed in range(20)
    }
    assert len(chosen) > 10


def test_censoring_hides_the_largest_values_and_splits_ties() -> None:
    column = np.array([5.0, 1.0, 3.0, 3.0, 3.0, 2.0, 7.0, 3.0, 0.0, 1.0])
    values, schema = numbers(np.stack([column, np.arange(10.0)], axis=1))
    probability = probabilities(NmarCensor(), values, schema, 0.5)
    # Five of ten go: 7 and 5 surely, and three of the four threes.
    np.testing.assert_allclose(probability[:, 0], [1, 0, 0.75, 0.75, 0.75, 0, 1, 0.75, 0, 0])
    np.testing.assert_allclose(probability[:, 1], [0] * 5 + [1] * 5)
    quarter = probabilities(NmarCensor(), values, schema, 0.25)
    np.testing.assert_allclose(quarter[:, 1], [0] * 7 + [0.5, 1, 1])
    np.testing.assert_allclose(quarter.mean(axis=0), 0.25)


def test_censoring_leaves_out_cells_that_are_not_present() -> None:
    values, schema = numbers(np.array([[np.nan], [1.0], [2.0], [3.0], [4.0]]))
    np.testing.assert_allclose(probabilities(NmarCensor(), values, schema, 0.5)[:, 0], [0, 0, 0, 1, 1])


def test_censoring_of_categories_hides_whole_levels_but_one() -> None:
    codes = np.repeat([0.0, 1.0, 2.0, 3.0], 25)
    schema = Schema((Attribute("x", "categorical", levels=LEVELS),))
    probability = probabilities(NmarCensor(), Values(codes[:, None]), schema, 0.6)[:, 0]
    by_level = sorted(probability[codes == level].mean() for level in range(4))
    assert all(len(set(probability[codes == level])) == 1 for level in range(4))
    np.testing.assert_allclose(by_level, [0, 0.4, 1, 1])


def test_censoring_at_the_mean_ignores_the_ratio() -> None:
    scalars = np.array([[0.0, 0.1, 1.0], [0.0, 0.1, 2.0], [0.0, 0.1, 3.0], [8.0, 0.1, 6.0], [np.nan, 0.1, 4.0]])
    values, schema = numbers(scalars)
    for ratio in (0.1, 0.9):
        probability = probabilities(NmarCensor(), values, schema, ratio, threshold="mean")
        np.testing.assert_array_equal(probability, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize(("columns", "censored"), [(1, 1), (2, 1), (5, 2), (8, 4)])
def test_censoring_of_half_the_columns(columns: int, censored: int) -> None:
    values, schema = numbers(np.random.default_rng(0).normal(size=(40, columns)))
    probability = probabilities(NmarCensor(), values, schema, 0.5, columns="half")
    np.testing.assert_array_equal(maskable_columns(probability), np.arange(columns) < censored)


@pytest.mark.parametrize("mechanism", [kind() for kind in ALL], ids=lambda m: m.name)
def test_a_seed_decides_the_mask(mechanism: Mechanism) -> None:
    values, schema = mixed_data()
    present = ~np.isnan(values.scalars)
    first, second, other = (
        draw_observed(mechanism, values, schema, 0.5, np.random.default_rng(seed), present)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).mean() > 0.1


def test_the_mask_stream_does_not_depend_on_values() -> None:
    values, schema = mixed_data()
    present = ~np.isnan(values.scalars)
    for mechanism in (kind() for kind in ALL):
        states = []
        for scalars in (values.scalars, np.where(present, 0.0, np.nan)):
            rng = np.random.default_rng(5)
            draw_observed(mechanism, Values(scalars), schema, 0.5, rng, present)
            states.append(rng.random())
        assert states[0] == states[1]


def test_what_is_not_present_informs_nobody() -> None:
    rng = np.random.default_rng(0)
    values, schema = numbers(rng.normal(size=(200, 6)))
    present = rng.random((200, 6)) < 0.8
    noise = Values(np.where(present, values.scalars, 1e6))
    for mechanism in (kind() for kind in ALL):
        first = draw_observed(mechanism, values, schema, 0.5, np.random.default_rng(5), present)
        second = draw_observed(mechanism, noise, schema, 0.5, np.random.default_rng(5), present)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])


def test_mcar_takes_images_and_the_extreme_ratios() -> None:
    values, schema = image_data()
    present = np.ones((5, 2), dtype=bool)
    present[0, 1] = False
    for ratio in (0, 1):
        observed, probability = draw_observed(Mcar(), values, schema, ratio, np.random.default_rng(0), present)
        np.testing.assert_array_equal(observed, present & (ratio == 0))
        assert (probability == ratio).all()


@pytest.mark.parametrize("kind", [Mar, Nmar, NmarLogistic, NmarCensor])
def test_images_are_refused_in_one_line(kind: type[Mechanism]) -> None:
    values, schema = image_data()
    with pytest.raises(BenchError, match="'photo' is of kind image; use mechanism 'mcar'") as error:
        draw_observed(kind(), values, schema, 0.5, np.random.default_rng(0), np.ones((5, 2), dtype=bool))
    assert "\n" not in str(error.value)
    with pytest.raises(BenchError, match="photo"):
        probabilities(kind(), values, schema, 0.5)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("ratio", [-0.1, 1.2, float("nan")])
def test_ratios_that_are_no_share_are_refused(kind: type[Mechanism], ratio: float) -> None:
    values, schema = mixed_data(50)
    with pytest.raises(BenchError, match="ratio"):
        draw_observed(kind(), values, schema, ratio, np.random.default_rng(0), ~np.isnan(values.scalars))
    with pytest.raises(BenchError, match="ratio"):
        probabilities(kind(), values, schema, ratio)


@pytest.mark.parametrize("kind", [Mar, Nmar, NmarLogistic, NmarCensor])
@pytest.mark.parametrize("ratio", [0, 1])
def test_extreme_ratios_are_for_mcar_alone(kind: type[Mechanism], ratio: float) -> None:
    values, schema = mixed_data(50)
    with pytest.raises(BenchError, match="above 0 and below 1"):
        draw_observed(kind(), values, schema, ratio, np.random.default_rng(0), ~np.isnan(values.scalars))


@pytest.mark.parametrize(
    ("mechanism", "parameters", "message"),
    [
        (Mar(), {"p_observd": 0.5}, "no parameter 'p_observd'. Did you mean 'p_observed'?"),
        (Mcar(), {"p_observed": 0.5}, "'mcar' has no parameter 'p_observed'. It takes none."),
        (Mar(), {"p_observed": 1.0}, "p_observed = 1.0 is not a share"),
        (NmarLogistic(), {"p_observed": "half"}, "p_observed = half is not a share"),
        (NmarCensor(), {"columns": "hal"}, "columns = 'hal'. Did you mean 'half'?"),
        (NmarCensor(), {"threshold": "quantle"}, "threshold = 'quantle'. Did you mean 'quantile'?"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(mechanism: Mechanism, parameters: dict[str, Any], message: str) -> None:
    values, schema = mixed_data(50)
    present = ~np.isnan(values.scalars)
    with pytest.raises(BenchError) as error:
        draw_observed(mechanism, values, schema, 0.5, np.random.default_rng(0), present, parameters)
    assert message in str(error.value)


def test_parameters_resolve_over_the_defaults() -> None:
    assert resolve_parameters(NmarCensor(), {"columns": "half"}) == {"columns": "half", "threshold": "quantile"}
    assert resolve_parameters(Mar(), None) == {"p_observed": 0.3}


@pytest.mark.parametrize("kind", [Mar, NmarLogistic])
def test_one_column_cannot_be_driven(kind: type[Mechanism]) -> None:
    values, schema = numbers(np.arange(5.0)[:, None])
    with pytest.raises(BenchError, match="at least two attributes"):
        probabilities(kind(), values, schema, 0.5)


def test_a_mechanism_of_a_plug_in_is_checked() -> None:
    class Broken(Mechanism):
        name = "broken"
        returned: FloatArray

        def missing_probability(
            self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
        ) -> FloatArray:
            return self.returned

    values, schema = numbers(np.arange(4.0)[:, None])
    present = np.ones((4, 1), dtype=bool)
    mechanism = Broken()
    for returned, message in [
        (np.full((4, 1), 1.5), "outside"),
        (np.full((4, 1), np.nan), "NaN"),
        (np.zeros(4), "shape"),
    ]:
        mechanism.returned = returned
        with pytest.raises(BenchError, match=message):
            draw_observed(mechanism, values, schema, 0.5, np.random.default_rng(0), present)


def test_calibration_with_far_outliers_and_many_columns() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100, 3000))
    logits[0, 0], logits[1, 1] = 1e4, -1e4
    for ratio in (0.02, 0.98):
        probability = calibrated_probability(logits, np.ones(logits.shape, dtype=bool), ratio)
        assert np.abs(probability.mean(axis=0) - ratio).max() < 1e-5


def test_a_column_is_calibrated_alone_as_among_others() -> None:
    logits = np.random.default_rng(0).normal(size=(100, 30)) * np.arange(1, 31)
    counted = np.ones(logits.shape, dtype=bool)
    together = calibrated_probability(logits, counted, 0.3)
    alone = np.concatenate([calibrated_probability(logits[:, [j]], counted[:, [j]], 0.3) for j in range(30)], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_a_column_without_any_present_cell_breaks_nothing() -> None:
    values, schema = numbers(np.column_stack([np.full(20, np.nan), np.arange(20.0), np.arange(20.0) % 7]))
    present = ~np.isnan(values.scalars)
    for mechanism in (kind() for kind in ALL):
        observed, probability = draw_observed(mechanism, values, schema, 0.5, np.random.default_rng(0), present)
        assert np.isfinite(probability).all() and not observed[:, 0].any()


# Warnings


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        (0, ["mechanism 'm' hides nothing"]),
        (1000, ["mechanism 'm' hides every value"]),
        (500, []),
        (560, []),
        (570, ["mechanism 'm' hides 57.0% of the values instead of 50.0%"]),
    ],
)
def test_a_ratio_that_is_not_met_is_warned_of(hidden: int, told: list[str]) -> None:
    from bench.problem.mechanisms import ratio_warnings

    observed = np.arange(1000).reshape(100, 10) >= hidden
    everywhere = np.ones((100, 10), dtype=bool)
    assert ratio_warnings("m", 0.5, observed, everywhere, np.full((100, 10), 0.5)) == told


def test_columns_left_alone_by_design_are_no_warning() -> None:
    from bench.problem.mechanisms import ratio_warnings

    observed = np.ones((100, 4), dtype=bool)
    observed[::2, 0] = False
    probability = np.zeros((100, 4))
    probability[:, 0] = 0.5
    assert ratio_warnings("m", 0.5, observed, np.ones((100, 4), dtype=bool), probability) == []
