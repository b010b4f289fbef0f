"""The numbers the paper printed, to stand beside the suite's own."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.experiment.specs import PublishedKey
from bench.paths import published_folder

COLUMNS = ("table", "method", "dataset", "attribute", "mechanism", "ratio", "metric", "mean", "std", "std_below")


@dataclass(frozen=True)
class PublishedValue:
    """A published cell, as printed: mean and standard deviation as text, or the bound below which the latter lies."""

    mean_text: str
    sd_text: str = ""
    sd_below: float | None = None

    @property
    def mean(self) -> float:
        """The mean as a number."""
        return float(self.mean_text)

    @property
    def sd(self) -> float | None:
        """The standard deviation as a number, None if the paper only bounds it."""
        return float(self.sd_text) if self.sd_text else None

    @property
    def decimals(self) -> int:
        """Number of decimals the mean is printed with."""
        return len(self.mean_text.partition(".")[2])


Published = Mapping[PublishedKey, PublishedValue]


def read_published(path: Path | None = None) -> dict[PublishedKey, PublishedValue]:
    """Read the published numbers (the suite's own file if ``path`` is None).

    Raises BenchError if the file is missing, a column is, a number is not one, or two lines are the same cell.
    """
    path = published_folder() / "published.csv" if path is None else path
    found: dict[PublishedKey, PublishedValue] = {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            lacking = sorted(set(COLUMNS) - set(reader.fieldnames or ()))
            if lacking:
                raise BenchError(f"{path}:1: column '{lacking[0]}' is missing")
            for record in reader:
                key, value = _cell(record, f"{path}:{reader.line_num}")
                if key in found:
                    raise BenchError(f"{path}:{reader.line_num}: a second number for {key}")
                found[key] = value
    except OSError as error:
        raise BenchError(f"the published numbers cannot be read: {error}") from None
    return found


def _cell(record: Mapping[str, str], where: str) -> tuple[PublishedKey, PublishedValue]:
    """Read one line of the file; ``where`` names it in errors."""
    try:
        key = PublishedKey(
            table=int(record["table"]),
            method=record["method"],
            dataset=record["dataset"],
            attribute=record["attribute"],
            mechanism=record["mechanism"],
            ratio=float(record["ratio"]) if record["ratio"] else None,
            metric=record["metric"],
        )
        float(record["mean"])
        float(record["std"] or 0)
        below = float(record["std_below"]) if record["std_below"] else None
        value = PublishedValue(record["mean"], record["std"], below)
    except (TypeError, ValueError) as error:
        raise BenchError(f"{where}: {error}") from None
    return key, value
