"""What the suite asks of a method that draws: versions of the test rows, which are scored beside its imputation."""

from __future__ import annotations

import numpy as np

from bench.data.schema import FloatArray
from bench.data.view import Incomplete
from bench.errors import BenchError
from bench.plugins.contracts import Method, StackedMethod

#: The seed of the draws that are scored.
SCORED_SEED = 0


def draws_samples(method: type[Method]) -> bool:
    """Return whether a method defines ``sample``."""
    return method.sample is not Method.sample


def drawn_scalars(method: Method, data: Incomplete, draws: int) -> list[FloatArray]:
    """Return what a fitted method draws for the scalars of each replica, [draws, n, S] each.

    Raises what the method raises, and BenchError unless it gives as many complete versions as it was asked for.
    """
    if isinstance(method, StackedMethod):
        found = method.sample_many(data, draws, SCORED_SEED)
    else:
        found = [method.sample(data, draws, SCORED_SEED)]
    shape = (len(data), len(data.schema.scalar_indices))
    if len(found) != data.replicas or any(len(own) != draws for own in found):
        raise BenchError(f"method '{method.name}' did not give {draws} draws of each of {data.replicas} replicas")
    scalars = []
    for replica, own in enumerate(found):
        if any(values.scalars.shape != shape for values in own):
            raise BenchError(f"a draw of method '{method.name}' is not of shape {shape}")
        drawn = np.stack([values.scalars for values in own])
        hidden = ~data.observed[replica][:, data.schema.scalar_indices]
        if not np.isfinite(drawn[:, hidden]).all():
            raise BenchError(f"a draw of method '{method.name}' holds NaN or infinity")
        scalars.append(drawn)
    return scalars
