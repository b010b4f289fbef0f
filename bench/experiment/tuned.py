"""What tuning found: a method's trials on a data set, kept as JSON and read back as the parameter set ``tuned``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.paths import shipped_tuned_folder
from bench.plugins.reader import PluginInfo

#: Name of the parameter set.
TUNED = "tuned"
#: Seeds to be tuned before a choice is frozen for others.
FROZEN_FROM = 3


@dataclass(frozen=True)
class Tuned:
    """The trials of a method on a data set, and the parameters they led to, for each seed.

    A trial is ``{"parameters": {...}, "error": number or None}``; its error is that of the selection rule, in units of
    the floor's, None if the training diverged. The first are the defaults, so that by this rule a choice is never
    worse than they are. If the data have official test rows, which no seed's training and validation rows overlap,
    the trials of one seed serve ``every_seed``.
    """

    method: str
    method_version: int
    dataset: str
    content: str
    mechanism: str
    ratio: float
    preset: str
    every_seed: bool
    trials: Mapping[str, Sequence[Mapping[str, Any]]]

    def chosen(self, seed: int) -> dict[str, Any] | None:
        """Return the parameters chosen for a seed, None if it was not tuned; ties go to the earlier trial."""
        trials = self.trials.get(str(seed))
        if trials is None and self.every_seed and self.trials:
            trials = next(iter(self.trials.values()))
        if trials is None:
            return None
        best = best_trial(trials)
        return None if best is None else dict(best["parameters"])

    def frozen(self) -> dict[str, Any] | None:
        """Return the parameters of the trial with the lowest mean error over the tuned seeds: for seeds that were not.

        None with fewer than ``FROZEN_FROM`` tuned seeds, or if no trial finished on all of them. The rows that were
        validation rows here may be test rows under another seed; what was looked at are observed entries under another
        mask, and all that follows from them is one of a few trials.
        """
        columns = list(self.trials.values())
        if len(columns) < FROZEN_FROM or len({len(column) for column in columns}) != 1:
            return None
        errors: dict[int, float] = {}
        for number, same in enumerate(zip(*columns, strict=True)):
            finished = [trial["error"] for trial in same if trial["error"] is not None]
            if len(finished) == len(same) and all(trial["parameters"] == same[0]["parameters"] for trial in same):
                errors[number] = sum(map(float, finished)) / len(finished)
        return dict(columns[0][min(errors, key=errors.__getitem__)]["parameters"]) if errors else None

    def write(self, folder: Path) -> Path:
        """Write the record below ``folder``, all or nothing, and return its path."""
        path = tuned_path(folder, self.method, self.dataset)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
        return path


def best_trial(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the trial with the lowest error, the earliest of equals; None if all diverged."""
    finished = [trial for trial in trials if trial["error"] is not None]
    return min(finished, key=lambda trial: float(trial["error"])) if finished else None


def tuned_path(folder: Path, method: str, dataset: str) -> Path:
    """Return where the record of a method on a data set is kept."""
    return folder / dataset / f"{method}.json"


class TunedParameters:
    """Looks up tuned parameters: in a store's folder ``tuned`` first, then among those that ship with the suite."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        """Look in ``folders``, then in the suite's own."""
        self._folders = (*folders, shipped_tuned_folder())
        self._read: dict[tuple[str, str], Tuned | None] = {}

    @classmethod
    def of_store(cls, store: Path) -> TunedParameters:
        """Return those of a store's folder."""
        return cls([tuned_folder(store)])

    def record(self, method: PluginInfo, dataset: str) -> Tuned | None:
        """Return the record of a method, in its present version, on a data set; None if there is none.

        Raises BenchError on a record that cannot be read.
        """
        wanted = (method.name, dataset)
        if wanted not in self._read:
            self._read[wanted] = self._find(method, dataset)
        return self._read[wanted]

    def _find(self, method: PluginInfo, dataset: str) -> Tuned | None:
        for folder in self._folders:
            path = tuned_path(folder, method.name, dataset)
            if not path.is_file():
                continue
            try:
                record = Tuned(**json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                raise BenchError(f"{path}: not a record of tuning ({error}); delete it and tune again") from None
            if record.method_version == method.version:
                return record
        return None

    def chosen(self, method: PluginInfo, dataset: str, seed: int, content: str) -> dict[str, Any]:
        """Return the parameters tuning chose for a method on a data set under a seed, or those frozen for all others.

        Raises BenchError, with the command that mends it, if there are none for these data.
        """
        record = self.record(method, dataset)
        command = f"run `vsae-bench tune {method.name} {dataset}"
        if record is None:
            raise BenchError(f"'{method.name}' is not tuned on '{dataset}' in its version {method.version}: {command}`")
        if record.content != content:
            raise BenchError(
                f"'{method.name}' was tuned on other data than '{dataset}' has here (a subset, or another release):"
                f" {command} --again`"
            )
        chosen = record.chosen(seed) or record.frozen()
        if chosen is None:
            raise BenchError(f"'{method.name}' is not tuned on '{dataset}' for seed {seed}: {command} --seeds {seed}`")
        return chosen


def tuned_folder(store: Path) -> Path:
    """Return the folder of a store that keeps the records."""
    return store / "tuned"
