"""vsae-bench: a reproducibility benchmark suite for imputing missing values."""

from collections.abc import Iterable

__version__ = "0.2.0"

#: Version, for each kind of attribute, of everything that turns a cell into numbers apart from the method itself:
#: encoding, splits, masks, the neural engine, scoring. Raise it when stored rows would come out differently.
ENGINE_VERSIONS = {"numeric": 2, "categorical": 2, "image": 3, "features": 3}


def engine_version(kinds: Iterable[str]) -> int:
    """Return the version for data with attributes of these kinds: the newest of theirs."""
    return max(ENGINE_VERSIONS[kind] for kind in kinds)
