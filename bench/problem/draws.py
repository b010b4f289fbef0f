"""What the suite asks of a method that draws: versions of the test rows, a chunk at a time, scored as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.data.schema import FloatArray, IntArray, Schema
from bench.data.table import Values
from bench.data.view import Incomplete
from bench.errors import BenchError
from bench.plugins.contracts import Method, StackedMethod
from bench.problem.build import Problem
from bench.problem.complete import complete
from bench.problem.draw_scores import DrawTotals
from bench.problem.metrics import reference_of

#: Floats that the draws of a chunk of rows may take for one replica. It is part of what is computed, since every chunk
#: has random numbers of its own; it does not depend on the stack.
CHUNK_FLOATS = 2**22


@dataclass(frozen=True)
class Drawn:
    """What came of a replica's draws: their scores as JSON values, empty if there are none, or why they have none."""

    scores: dict[str, Any]
    reason: str = ""


def draws_samples(method: type[Method]) -> bool:
    """Return whether a method draws: it defines ``sample`` or, if it stacks, ``sample_many``."""
    if issubclass(method, StackedMethod):
        return method.sample_many is not StackedMethod.sample_many
    return method.sample is not Method.sample


def samples(method: Method, data: Incomplete, draws: int, seed: int) -> Sequence[Sequence[Values]]:
    """Return what a fitted method draws for each replica of ``data``.

    Raises what the method raises, and BenchError unless there are as many draws of each replica as were asked for.
    """
    if isinstance(method, StackedMethod):
        found = method.sample_many(data, draws, seed)
    else:
        found = [method.sample(data, draws, seed)]
    if len(found) != data.replicas or any(len(own) != draws for own in found):
        raise BenchError(f"method '{method.name}' did not give {draws} draws of each of {data.replicas} replicas")
    return found


def scored_draws(method: Method, problem: Problem, fitted_on: Incomplete, draws: int) -> list[Drawn]:
    """Return what the draws of a fitted method score on the hidden numbers and categories of each replica's test rows.

    What is wrong with one replica's draws leaves the others. Raises what the method raises.
    """
    table, data = problem.table, problem.test
    schema, replicas = table.schema, range(data.replicas)
    if not len(schema.scalar_indices) or not len(data):
        return [Drawn({}) for _ in replicas]
    reference = reference_of(table)
    totals = [DrawTotals(schema, reference, len(data)) for _ in replicas]
    reasons: dict[int, str] = {}
    for number, positions in enumerate(_chunks(len(data), draws, schema)):
        method.context.stop()
        view = data.take(positions)
        found = samples(method, view, draws, number)
        for replica in replicas:
            rows = problem.splits[replica].test[positions]
            try:
                drawn = _scalars(found[replica], view, fitted_on, replica)
                truth = Values(table.scalars[rows])
                totals[replica].add(truth, drawn, problem.masks[replica][rows], table.present[rows])
            except BenchError as error:
                reasons.setdefault(replica, str(error))
    return [_drawn(totals[replica], reasons.get(replica, "")) for replica in replicas]


def _drawn(totals: DrawTotals, reason: str) -> Drawn:
    try:
        scores = None if reason else totals.scores()
    except BenchError as error:
        return Drawn({}, str(error))
    return Drawn({} if scores is None else scores.as_json(), reason)


def _chunks(rows: int, draws: int, schema: Schema) -> Iterator[IntArray]:
    """Yield the positions of rows, as many at a time as the memory for their draws allows."""
    width = schema.encoded_width + sum(attribute.width for attribute in schema.block_attributes)
    size = max(1, CHUNK_FLOATS // max(1, draws * width))
    for first in range(0, rows, size):
        yield np.arange(first, min(first + size, rows))


def _scalars(draws: Sequence[Values], data: Incomplete, fitted_on: Incomplete, replica: int) -> FloatArray:
    """Return draws as an array [D, n, S]; what no method can know and is left NaN is filled as in an imputation."""
    shape = (len(data), len(data.schema.scalar_indices))
    for own in draws:
        if not isinstance(own, Values):
            raise BenchError(f"a draw is {type(own).__name__}, not bench.api.Values")
        if own.scalars.shape != shape:
            raise BenchError(f"a draw has shape {own.scalars.shape}, not {shape}")
    hidden = ~data.observed[replica][:, data.schema.scalar_indices]
    drawn = np.stack([own.scalars for own in draws])
    if np.isnan(drawn[:, hidden]).any():
        unknown = Values(np.where(hidden, np.nan, drawn[0]))
        drawn = np.where(np.isnan(drawn), complete(unknown, data, fitted_on, replica)[0].scalars, drawn)
    return drawn
