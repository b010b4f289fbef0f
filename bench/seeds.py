"""Named streams of randomness: a seed is a hash of the names of what it is for.

The split and the mask are drawn from streams that never name the method, so every method sees the same holes.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Component = str | int | float | bool | None


def canonical_json(value: object) -> str:
    """Return the one JSON text of ``value``: sorted keys, no blanks, no NaN. Raises ValueError on NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of ``value`` as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def seed_of(*components: Component) -> int:
    """Return a 63-bit seed that depends on every named component and on nothing else."""
    return int(digest(list(components))[:16], 16) >> 1


def generator(*components: Component) -> np.random.Generator:
    """Return NumPy's generator for the stream with these components, for example ``("mask", "mcar", 0.5, 0)``."""
    import numpy as np

    return np.random.default_rng(seed_of(*components))
