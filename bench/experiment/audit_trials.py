"""Trials of the audit: deterministic methods under each choice that the appendix leaves open, as stored lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.seeds import canonical_json

#: The file of trials in a store, and in the suite.
TRIALS = "trials.jsonl"
#: The data of Table 6: of the sets that may be the paper's Phishing, both.
DATASETS = ("yeast", "heart", "phishing", "mushroom", "whitewine", "phishing_websites")
CATEGORICAL = ("heart", "phishing", "mushroom", "phishing_websites")
#: Name of a trial's method -> the suite's method and what is changed in its parameters.
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "floor": ("mean_mode", {}),
    "MICE, mean": ("mice", {}),
    "MICE, draw": ("mice", {"posterior": "draw"}),
    "MissForest": ("missforest", {}),
}
RATIO, PRESET, SEEDS = 0.5, "quick", (0, 1, 2)

#: A trial and its scores: {"trial": ..., "scores": {"test" or "all": {definition: error}}}.
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One imputation.

    ``coded`` trials show the method categories as numbers and round what it imputes. ``fitted`` names the rows that the
    method is fitted on, ``training`` or ``all``. ``mask_seed`` is the seed of split and mask, ``seed`` the method's.
    """

    dataset: str
    include_target: bool
    coded: bool
    fitted: str
    method: str
    seed: int
    mask_seed: int

    @property
    def key(self) -> str:
        """The trial as canonical JSON."""
        return canonical_json(asdict(self))


def trials() -> Iterator[Trial]:
    """Yield all trials of a data set after the other: masks redrawn with each seed, then the mask of seed 0 for all."""
    for dataset in DATASETS:
        for seed in SEEDS:
            for method in METHODS:
                for coded in (False, True) if dataset in CATEGORICAL and method != "floor" else (False,):
                    for target in (False, True):
                        for fitted in ("training", "all"):
                            yield Trial(dataset, target, coded, fitted, method, seed, seed)
        for method in METHODS:
            for seed in SEEDS[1:]:
                yield Trial(dataset, False, False, "training", method, seed, 0)


def read_trials(paths: Iterable[Path]) -> dict[str, Record]:
    """Return key -> record of the trials in some files, later ones in the place of earlier; torn lines are left out."""
    found: dict[str, Record] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                record = json.loads(line)
                found[Trial(**record["trial"]).key] = record
            except (ValueError, KeyError, TypeError):
                continue
    return found
