"""Why values are missing: MCAR, MAR and three kinds of NMAR, calibrated to a missing ratio, and how a mask is drawn.

Libraries mean different things by a missing ratio. Each mechanism below says which entries it counts; entries that the
source itself lacks never count. ``realised_shares`` takes it three ways, and ``docs/masks.md`` explains.

The logistic mechanisms follow the propensities of Muzellec et al. 2020 (MissingDataOT), censoring at the mean follows
not-MIWAE (Ipsen et al. 2021). A mask is drawn here and nowhere else, and never depends on a method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.schema import BoolArray, FloatArray, Schema
from bench.data.table import Values
from bench.errors import BenchError, closest
from bench.plugins.contracts import Mechanism

if TYPE_CHECKING:
    from bench.data.schema import IntArray

#: Bisection of a column stops if its mean probability is this close to the ratio.
CALIBRATION_TOLERANCE = 1e-6
#: Binomial standard deviations by which a realised ratio may be off without a warning.
ALLOWED_DEVIATIONS = 4.0


class Mcar(Mechanism):
    """Every entry is missing with the same probability, whatever the values are.

    The ratio is the expected share of all entries.
    """

    name = "mcar"
    summary = "missing completely at random: every entry with the same probability"
    kinds = ("numeric", "categorical", "image", "features")

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return [n, M] filled with ``ratio``, which may be 0 or 1; raises BenchError outside."""
        _require_ratio(ratio)
        return np.full((len(values.scalars), len(schema)), float(ratio))


class Mar(Mechanism):
    """Some columns are always observed and decide, through a logistic model, where the others are missing.

    The ratio is the expected share of each other column: of all entries it is less, 35 % at 0.5 where 3 of 10 columns
    decide.
    """

    name = "mar"
    summary = "missing at random: logistic in a share of columns that are always observed"
    parameters = {"p_observed": 0.3}

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return [n, M]: 0 in the driving columns, calibrated to ``ratio`` in each other column.

        ``p_observed`` is the share of driving columns, rounded, at least one and never all. Raises BenchError on
        blocks, on a ratio or share outside (0, 1), and on fewer than two attributes.
        """
        share = {**self.parameters, **parameters}["p_observed"]
        probability, _ = _driven(self.name, values, schema, ratio, rng, share)
        return probability


class Nmar(Mechanism):
    """Every column decides itself, through a logistic model, where it is missing.

    The ratio is the expected share of each column, and so of all entries.
    """

    name = "nmar"
    summary = "not missing at random, self-masking: logistic in the hidden value itself"
    ignorable = False

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return [n, M] ``sigmoid(a_j x_j + b_j)`` with x_j standardised, a_j a random sign and b_j calibrated.

        Raises BenchError on blocks and on a ratio outside (0, 1).
        """
        _require_inner_ratio(self.name, ratio)
        scores, present = _standardised(self.name, values, schema, rng)
        signs = rng.integers(0, 2, size=len(schema)) * 2.0 - 1.0
        return calibrated_probability(scores * signs, present, ratio)


class NmarLogistic(Mechanism):
    """As MAR, but the columns that decide are themselves hidden completely at random.

    The ratio is the expected share of each column, and so of all entries.
    """

    name = "nmar_logistic"
    summary = "not missing at random: as mar, but the driving columns are themselves masked MCAR"
    ignorable = False
    parameters = {"p_observed": 0.3}

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return [n, M]: ``ratio`` in the driving columns, calibrated to ``ratio`` in each other column.

        ``p_observed`` is the share of driving columns, rounded, at least one and never all. Raises BenchError on
        blocks, on a ratio or share outside (0, 1), and on fewer than two attributes.
        """
        share = {**self.parameters, **parameters}["p_observed"]
        probability, drivers = _driven(self.name, values, schema, ratio, rng, share)
        probability[:, drivers] = ratio
        return probability


class NmarCensor(Mechanism):
    """The largest values of a column are hidden.

    The ratio is the share of each column that is censored: of all entries it is half as much if ``columns`` is
    ``half``. With ``threshold = "mean"`` it is ignored, and what a column's mean gives is the share.
    """

    name = "nmar_censor"
    summary = "not missing at random: hides the largest values of a column, above a quantile or its mean"
    ignorable = False
    parameters = {"columns": "all", "threshold": "quantile"}

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return [n, M]: 1 above a column's threshold, 0 below it and in the columns that are left alone.

        ``columns`` is ``all`` or ``half`` (the first half, at least one). ``threshold`` is ``quantile`` (ties at
        the (1 - ratio) quantile share what is left of the ratio) or ``mean``, which ignores the ratio as not-MIWAE
        does and hides nothing in a constant column. Raises BenchError on blocks, on a ratio outside (0, 1) and on
        any other choice.
        """
        _require_inner_ratio(self.name, ratio)
        settings = {**self.parameters, **parameters}
        columns = _require_choice(self.name, "columns", settings["columns"], ("all", "half"))
        threshold = _require_choice(self.name, "threshold", settings["threshold"], ("quantile", "mean"))
        scores, present = _standardised(self.name, values, schema, rng)
        if threshold == "mean":
            probability: FloatArray = (scores > 0).astype(np.float64)
        else:
            probability = _above_quantile(scores, present, ratio)
        if columns == "half":
            probability[:, max(1, len(schema) // 2) :] = 0.0
        return probability


def draw_observed(
    mechanism: Mechanism,
    values: Values,
    schema: Schema,
    ratio: float,
    rng: np.random.Generator,
    present: BoolArray,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[BoolArray, FloatArray]:
    """Draw a mask: return ``observed`` and the probability of being missing it was drawn from, both [n, M].

    ``values`` are the complete ones; cells that are not ``present`` [n, M] are not used and are never observed. The
    mechanism draws from ``rng`` first, then the mask, one number per cell. Raises BenchError on a ratio outside
    [0, 1], an unknown parameter, an attribute kind the mechanism does not take, or unusable probabilities.
    """
    _require_ratio(ratio)
    settings = resolve_parameters(mechanism, parameters)
    for attribute in schema.attributes:
        if attribute.kind not in mechanism.kinds:
            raise BenchError(
                f"mechanism '{mechanism.name}' takes {' and '.join(mechanism.kinds)} attributes only, but "
                f"'{attribute.name}' is of kind {attribute.kind}; use mechanism 'mcar' for this data set"
            )
    scalars = np.where(present[:, schema.scalar_indices], values.scalars, np.nan)
    probability = mechanism.missing_probability(Values(scalars, values.blocks), schema, ratio, rng, **settings)
    if not isinstance(probability, np.ndarray) or probability.dtype.kind not in "fiub":
        kind = getattr(probability, "dtype", type(probability).__name__)
        raise BenchError(f"mechanism '{mechanism.name}' returned {kind}, not an array of probabilities")
    if probability.shape != present.shape:
        raise BenchError(
            f"mechanism '{mechanism.name}' returned probabilities of shape {probability.shape}, not {present.shape}"
        )
    if not ((probability >= 0) & (probability <= 1) | ~present).all():
        raise BenchError(f"mechanism '{mechanism.name}' returned probabilities that are NaN or outside [0, 1]")
    observed: BoolArray = (rng.random(present.shape) >= probability) & present
    return observed, probability


def resolve_parameters(mechanism: Mechanism, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the mechanism's parameters with the given ones in place; raises BenchError on an unknown name."""
    given = dict(parameters or {})
    for name in given:
        if name not in mechanism.parameters:
            hint = closest(name, mechanism.parameters) or " It takes none."
            raise BenchError(f"mechanism '{mechanism.name}' has no parameter '{name}'.{hint}")
    return {**mechanism.parameters, **given}


def maskable_columns(probability: FloatArray) -> BoolArray:
    """Return [M]: the columns in which anything can be hidden (their probability is not 0 everywhere)."""
    maskable: BoolArray = np.any(probability > 0, axis=0)
    return maskable


def realised_ratio(observed: BoolArray, present: BoolArray, probability: FloatArray) -> float:
    """Return the hidden share of present cells in maskable columns, 0 if there are none; all arguments are [n, M]."""
    maskable = maskable_columns(probability)
    cells = present[:, maskable]
    hidden = cells & ~observed[:, maskable]
    return float(hidden.sum() / max(int(cells.sum()), 1))


def realised_shares(observed: BoolArray, present: BoolArray, probability: FloatArray) -> dict[str, float]:
    """Return what share a mask hides of ``all`` present entries, of ``maskable`` ones, and of ``rows``.

    Libraries mean different things by a missing ratio: here it is that over the present entries of maskable attributes
    (``realised_ratio``); a row counts if it has a hidden entry. All arguments are [n, M].
    """
    hidden = present & ~observed
    return {
        "all": float(hidden.sum() / max(int(present.sum()), 1)),
        "maskable": realised_ratio(observed, present, probability),
        "rows": float(hidden.any(axis=1).mean()) if len(hidden) else 0.0,
    }


def ratio_warnings(
    mechanism: str, ratio: float, observed: BoolArray, present: BoolArray, probability: FloatArray
) -> list[str]:
    """Return a warning if a mask hides nothing, everything, or another share than ``ratio``; masks are [n, M].

    Another share is one more than four binomial standard deviations away, both over the present cells in maskable
    columns and over all present cells.
    """
    cells, hidden = int(present.sum()), int((present & ~observed).sum())
    if cells and hidden in (0, cells):
        return [f"mechanism '{mechanism}' hides {'nothing' if hidden == 0 else 'every value'}"]
    realised = realised_ratio(observed, present, probability)
    counted = int(present[:, maskable_columns(probability)].sum())
    shares = ((realised, counted), (hidden / max(cells, 1), cells))
    allowed = (ALLOWED_DEVIATIONS * np.sqrt(ratio * (1 - ratio) / max(count, 1)) for _, count in shares)
    if any(abs(share - ratio) <= most for (share, _), most in zip(shares, allowed, strict=True)):
        return []
    return [f"mechanism '{mechanism}' hides {realised:.1%} of the values instead of {ratio:.1%}"]


def calibrated_probability(logits: FloatArray, counted: BoolArray, ratio: float) -> FloatArray:
    """Return ``sigmoid(logits + b)`` [n, C] with one b per column so that its mean over ``counted`` cells is ``ratio``.

    Bisection of all columns at once. A column that has met the tolerance is left alone, so that its probabilities do
    not depend on how long the others take. If no cell of a column counts, all do.
    """
    if logits.size == 0:
        return np.zeros(logits.shape)
    counted = counted | ~counted.any(axis=0)
    weights = counted / counted.sum(axis=0)
    centre = np.log(ratio / (1 - ratio))
    low, high = centre - logits.max(axis=0), centre - logits.min(axis=0)
    # 100 halvings exhaust the precision of a float; a bracket of a few hundred needs some 30 to meet the tolerance.
    for _ in range(100):
        middle = (low + high) / 2
        # tanh does not overflow, as exp would for far outliers.
        probability: FloatArray = 0.5 * (1.0 + np.tanh((logits + middle) * 0.5))
        gap = np.einsum("nc,nc->c", weights, probability) - ratio
        met = np.abs(gap) <= CALIBRATION_TOLERANCE
        if met.all():
            break
        low = np.where(met | (gap < 0), middle, low)
        high = np.where(met | (gap > 0), middle, high)
    return probability


def _driven(
    name: str, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, share: Any
) -> tuple[FloatArray, IntArray]:
    """Return probabilities [n, M] that are logistic in randomly chosen driving columns, and those columns (0 there).

    The logit of each other column has unit standard deviation over the rows. Driving columns without variance carry no
    information: the probability is then the ratio itself.
    """
    _require_inner_ratio(name, ratio)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise BenchError(f"mechanism '{name}': p_observed = {share} is not a share; give one between 0 and 1")
    scores, present = _standardised(name, values, schema, rng)
    count = len(schema)
    if count < 2:
        raise BenchError(f"mechanism '{name}' needs at least two attributes, one of them to drive the others")
    shuffled = rng.permutation(count)
    driving = min(max(1, round(share * count)), count - 1)
    drivers, others = np.sort(shuffled[:driving]), np.sort(shuffled[driving:])
    logits = scores[:, drivers] @ rng.standard_normal((driving, count - driving))
    deviation = logits.std(axis=0)
    logits = logits / np.where(deviation > 0, deviation, 1.0)
    probability = np.zeros((len(scores), count))
    probability[:, others] = calibrated_probability(logits, present[:, others], ratio)
    return probability, drivers


def _standardised(name: str, values: Values, schema: Schema, rng: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Return the columns with mean 0 and standard deviation 1 over their present cells, and where they are present.

    Categories become numbers by one N(0, 1) draw per level, constants and cells that are not present become 0 (the
    mean). Draws from ``rng`` for every level of the schema, whether it occurs or not, so that later draws depend on
    no value. Raises BenchError on image and feature attributes.
    """
    schema.require_scalar(f"mechanism '{name}'")
    numbers = np.array(values.scalars, dtype=np.float64)
    present: BoolArray = ~np.isnan(numbers)
    categorical = schema.scalar_columns("categorical")
    levels = np.array([max(1, schema.attributes[i].width) for i in schema.of_kind("categorical")], dtype=np.int64)
    level_scores = rng.standard_normal(int(levels.sum()))
    if len(categorical):
        codes = np.where(present, numbers, 0.0)[:, categorical].astype(np.int64)
        numbers[:, categorical] = level_scores[codes + np.cumsum(levels) - levels]
    count = np.maximum(present.sum(axis=0), 1)
    # The mean of equal numbers may differ from them in the last digit: compare them to find constants.
    largest = np.max(numbers, axis=0, where=present, initial=-np.inf)
    smallest = np.min(numbers, axis=0, where=present, initial=np.inf)
    mean = np.sum(numbers, axis=0, where=present) / count
    centred = np.where(present & (largest > smallest), numbers - mean, 0.0)
    deviation = np.sqrt(np.square(centred).sum(axis=0) / count)
    return centred / np.where(deviation > 0, deviation, 1.0), present


def _above_quantile(scores: FloatArray, present: BoolArray, ratio: float) -> FloatArray:
    """Return [n, M]: 1 for the largest share ``ratio`` of a column's present cells; ties at the edge share the rest."""
    if scores.size == 0:
        return np.zeros(scores.shape)
    count = present.sum(axis=0)
    target = ratio * count
    descending = -np.sort(np.where(present, -scores, np.inf), axis=0)
    position = np.minimum(np.floor(target).astype(np.int64), np.maximum(count - 1, 0))
    edge = np.take_along_axis(descending, position[None, :], axis=0)[0]
    above, tied = present & (scores > edge), present & (scores == edge)
    left_over = (target - above.sum(axis=0)) / np.maximum(tied.sum(axis=0), 1)
    probability: FloatArray = above + tied * left_over
    return probability


def _require_ratio(ratio: float) -> None:
    """Raise BenchError unless the ratio is a share."""
    if not 0 <= ratio <= 1:
        raise BenchError(f"missing ratio {ratio} is not a share; give a number between 0 and 1")


def _require_inner_ratio(name: str, ratio: float) -> None:
    """Raise BenchError unless the ratio is between 0 and 1, both excluded."""
    if not 0 < ratio < 1:
        raise BenchError(f"mechanism '{name}' takes a missing ratio above 0 and below 1, not {ratio}")


def _require_choice(name: str, parameter: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return the value of a parameter as one of its choices; raises BenchError on another."""
    if value not in choices:
        raise BenchError(f"mechanism '{name}': unknown {parameter} = '{value}'.{closest(str(value), choices)}")
    return str(value)
