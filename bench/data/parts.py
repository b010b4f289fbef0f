"""How many rows train, validate and test: known from the number of rows alone, before anything is drawn."""

from __future__ import annotations

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.2


def part_sizes(rows: int, official_test: int | None = None) -> tuple[int, int, int]:
    """Return the numbers of training, validation and test rows, each share rounded.

    Test is the official test rows if there are any, else 20 % of ``rows``; validation is 20 % of the rest.
    """
    pool = round((1 - TEST_SHARE) * rows) if official_test is None else rows - official_test
    train = round((1 - VALIDATION_SHARE) * pool)
    return train, pool - train, rows - pool
