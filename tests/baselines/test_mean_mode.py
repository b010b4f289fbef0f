"""The floor."""

from __future__ import annotations

import numpy as np

from bench.api import Attribute, Incomplete, Schema, Table, Values
from tests.classical import Load


def test_the_floor_fills_every_kind_with_training_statistics(load: Load) -> None:
    schema = Schema((Attribute("picture", "image", shape=(2,)), Attribute("number", "numeric")))
    blocks = {"picture": np.array([[0, 255], [255, 255], [9, 9]], dtype=np.uint8)}
    table = Table(schema, np.array([[1.0], [2.0], [99.0]]), blocks, np.ones((3, 2), dtype=bool))
    method = load("mean_mode")()
    train = Incomplete(table, np.array([[0, 1]]), np.ones((1, 2, 2), dtype=bool))
    method.fit(train, train, 0)
    values = method.impute(Incomplete(table, np.array([[2]]), np.zeros((1, 1, 2), dtype=bool)), 1)
    assert isinstance(values, Values)
    assert values.scalars.tolist() == [[1.5]]
    assert values.blocks["picture"].tolist() == [[0.5, 1.0]]
