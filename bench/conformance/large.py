"""The check of a method on a table as wide as it takes."""

from __future__ import annotations

from collections.abc import Callable

from bench.conformance.require import NotApplicable
from bench.conformance.tables import Example, wide_example
from bench.conformance.trial import Trial, require_survived
from bench.data.kinds import Kind
from bench.plugins.contracts import Method

LARGE_COLUMNS = 10_000


def many_columns(trial: Trial) -> None:
    """A table of 10,000 columns, or of max_attributes.

    Mend: declare ``max_attributes``, the most columns that take reasonable time and memory.
    """
    require_survived(trial, trial.example)


LARGE_METHOD_CHECKS: tuple[Callable[[Trial], None], ...] = (many_columns,)


def large_example(method: type[Method]) -> Example:
    """Return a table as wide as the method takes, 10,000 columns at most. Raises NotApplicable without such a kind."""
    kinds: list[Kind] = [kind for kind in ("numeric", "categorical") if kind in method.kinds]
    if not kinds:
        raise NotApplicable("it takes neither numbers nor categories")
    columns = LARGE_COLUMNS if method.max_attributes is None else min(LARGE_COLUMNS, method.max_attributes)
    example = wide_example(kinds, columns)
    width = example.table.schema.encoded_width
    if method.max_width is None or width <= method.max_width:
        return example
    return wide_example(kinds, max(1, columns * method.max_width // width))
