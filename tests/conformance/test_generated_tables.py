"""The generated tables hold what the checks rely on, and poison reaches no view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.api import Values
from bench.conformance.require import columns_of, difference
from bench.conformance.tables import REPLICAS, TABLES, example_of, poisoned


@pytest.mark.parametrize("name", TABLES)
def test_generated_tables_hold_what_the_checks_rely_on(name: str) -> None:
    example = example_of(name)
    table, kinds = example.table, TABLES[name]
    assert tuple(attribute.kind for attribute in table.schema.attributes) == kinds
    for replica in range(REPLICAS):
        parts = [example.train[replica], example.validation[replica], example.test[replica]]
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(table)))
        view = example.replica(replica).view(example.test[[replica]])
        assert view.observed.any(axis=(0, 1)).all() and (~view.observed).any(axis=(0, 1)).all()
    assert not table.present.all()
    assert example_of(name).table.content_hash == table.content_hash
    scalars = table.scalars[table.present[:, table.schema.scalar_indices].all(axis=1)]
    if scalars.shape[1] > 1 and "categorical" not in kinds:
        assert abs(np.asarray(np.corrcoef(scalars.T))[0, 1]) > 0.5
    for column, index in enumerate(table.schema.scalar_indices):
        levels = table.schema.attributes[index].levels
        if levels:
            assert set(scalars[:, column]) == set(range(len(levels)))


@pytest.mark.parametrize("name", TABLES)
def test_poison_changes_hidden_entries_and_no_view(name: str) -> None:
    example = example_of(name, replicas=1)
    table = poisoned(example.table, ~example.known, np.random.default_rng(0))
    everything = np.arange(len(table))[None]
    clean, dirty = (replace(example, table=each).view(everything) for each in (example.table, table))
    assert difference(table.schema, clean.values(), dirty.values()) == ""
    truth, poison = (Values(each.scalars, each.blocks) for each in (example.table, table))
    for (attribute, was), (_, now), known in zip(
        columns_of(truth, table.schema),
        columns_of(poison, table.schema),
        example.known.T,
        strict=True,
    ):
        changed = ~((was == now) | np.isnan(was) & np.isnan(now)).all(axis=1)
        assert not changed[known].any()
        assert changed[~known].mean() > 0.4, attribute.name
