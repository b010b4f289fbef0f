"""vsae-bench: a reproducibility benchmark suite for imputing missing values."""

__version__ = "0.1.0"

#: Version of everything that turns a cell into numbers apart from the method itself: encoding, splits, masks, scoring.
#: Raise it when a golden-number test shows that stored rows would come out differently.
ENGINE_VERSION = 1
