"""CMU-MOSI on its real files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.files.cache import LoadedTable


def test_real_cmu_mosi(real: Callable[[str], LoadedTable]) -> None:
    table = real("cmu_mosi").table
    assert table.test is not None
    assert (int((~table.test).sum()), int(table.test.sum())) == (1447, 752)
    assert [(a.name, a.width) for a in table.schema.attributes] == [("acoustic", 73), ("visual", 100), ("textual", 100)]
    constant = {name: int((block.std(axis=0) == 0).sum()) for name, block in table.blocks.items()}
    assert constant == {"acoustic": 0, "visual": 32, "textual": 0}
    assert np.abs(table.blocks["acoustic"]).max() <= 1
    assert np.abs(table.blocks["visual"][~table.test]).max() == 1
    assert table.blocks["textual"][0, 0] == np.float32(-1.13522)
