"""The checks of a data set: each catches a toy that is broken in one way, and sound ones pass them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from bench.api import Attribute, Dataset, Kind, Schema, Table
from bench.conformance.dataset import DATASET_CHECKS, DatasetTrial
from bench.conformance.suite import check_plugin
from bench.plugins.registry import Registry
from tests.conformance_toys import by_function


def test_a_built_in_data_set_passes(mirror: Path) -> None:
    assert check_plugin(Registry.scan().dataset("heart")) == "ok"


class Good(Dataset):
    """Numbers and a category, with a target and a cell without a value."""

    name = "good"
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical")
    target: ClassVar[str | None] = "kind"

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        size = np.arange(20.0)
        size[3] = np.nan
        return pd.DataFrame({"size": size, "colour": ["red", "blue"] * 10, "kind": ["p", "q"] * 10})


class Unstable(Good):
    """Has other numbers each time."""

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        return super().load(files).assign(size=np.random.random(20))  # type: ignore[union-attr]


class DeclaresAnotherHash(Good):
    """Declares the hash of other data."""

    content_hash = "0" * 64


class DeclaresTooFewKinds(Good):
    """Has categories it does not declare."""

    kinds = ("numeric",)


class DeclaresTooManyKinds(Good):
    """Declares images it does not have."""

    kinds = ("numeric", "categorical", "image")


class HasAnUndeclaredTarget(Good):
    """Has a target of a kind it does not declare."""

    kinds = ("numeric",)

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        return super().load(files).drop(columns="colour")  # type: ignore[union-attr]


class HasNoSuchTarget(Good):
    """Has no column of its target's name."""

    target = "price"


class HasOneRow(Good):
    """Has one row."""

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        return super().load(files).iloc[:1]  # type: ignore[union-attr]


class Built(Good):
    """A table by hand, to be broken."""

    kinds = ("numeric", "categorical", "features")
    target = None
    levels: tuple[str, ...] = ("p", "q")
    features: Any = np.zeros((20, 3), dtype=np.float32)
    code: float = 1.0

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        scalars = np.stack([np.arange(20.0), np.arange(20.0) % 2], axis=1)
        scalars[5, 1] = self.code
        schema = Schema(
            (
                Attribute("size", "numeric"),
                Attribute("kind", "categorical", levels=self.levels),
                Attribute("sound", "features", shape=(3,)),
            )
        )
        return Table(schema, scalars, {"sound": self.features}, np.ones((20, 3), dtype=bool))


class HasNaN(Built):
    """Has NaN among its features."""

    features = np.full((20, 3), np.nan, dtype=np.float32)


class HasDoubles(Built):
    """Has features of double precision."""

    features = np.zeros((20, 3))


class HasTooFewFeatures(Built):
    """Has narrower features than the schema says."""

    features = np.zeros((20, 2), dtype=np.float32)


class HasNoLevels(Built):
    """Has a category without levels."""

    levels = ()


class NamesALevelTwice(Built):
    """Has a category with two levels of one name."""

    levels = ("p", "p")


class HasAnotherCode(Built):
    """Has a code that is no level's."""

    code = 2.0


class NamesAColumnTwice(Good):
    """Has two columns of one name."""

    target = None

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        schema = Schema((Attribute("size", "numeric"), Attribute("size", "categorical", levels=("p",))))
        return Table(schema, np.zeros((20, 2)), {}, np.ones((20, 2), dtype=bool))


@pytest.mark.parametrize(
    ("dataset", "check", "reason"),
    [
        (Unstable, "two_loads_agree", "the second load has another content hash"),
        (DeclaresAnotherHash, "two_loads_agree", "which is not declared"),
        (DeclaresTooFewKinds, "kinds_are_those_declared", "it declares numeric, but has categorical and numeric"),
        (DeclaresTooManyKinds, "kinds_are_those_declared", "declares categorical and image and numeric, but has"),
        (HasAnUndeclaredTarget, "kinds_are_those_declared", "its target 'kind' is categorical"),
        (HasNoSuchTarget, "target_exists", "there is no column 'price'"),
        (HasOneRow, "rows_can_be_split", "of its 1 rows none is left for"),
        (HasNaN, "values_are_finite", "'sound' is NaN or infinite in 20 of 20 rows"),
        (HasDoubles, "shapes_fit", "'sound' is float64, not float32"),
        (HasTooFewFeatures, "shapes_fit", "'sound' has shape (20, 2), not (20, 3)"),
        (HasNoLevels, "levels_are_there", "'kind' has no levels"),
        (NamesALevelTwice, "levels_are_there", "'kind' names a level twice"),
        (HasAnotherCode, "levels_are_there", "'kind' has code 2; its levels are 0 to 1"),
        (NamesAColumnTwice, "shapes_fit", "two columns have the name 'size'"),
    ],
)
def test_broken_data_sets_are_caught(dataset: type[Dataset], check: str, reason: str) -> None:
    found = by_function(DATASET_CHECKS, DatasetTrial(dataset))
    assert found[check].status == "failed" and reason in found[check].reason


@pytest.mark.parametrize("dataset", [Good, Built])
def test_good_data_sets_pass(dataset: type[Dataset]) -> None:
    statuses = [outcome.status for outcome in by_function(DATASET_CHECKS, DatasetTrial(dataset)).values()]
    assert statuses.count("ok") == len(statuses) - (dataset.target is None)
    assert "failed" not in statuses
