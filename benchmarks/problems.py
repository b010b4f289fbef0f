"""Problems as a run poses them, for benchmarks that train a method themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.data.table import Table
    from bench.problem.build import Problem


def posed(dataset: str, mechanism: str, ratio: float, seeds: int) -> tuple[Table, Problem]:
    """Return a data set and the stacked problem of seeds 0 to N-1; raises BenchError if the data cannot be had."""
    from bench.files.fetch import load_sound
    from bench.plugins.registry import Registry, load
    from bench.problem.build import build_problem
    from bench.problem.scenario import Scenario

    registry = Registry.scan([])
    table = load_sound(load(registry.dataset(dataset))(), include_target=False).table
    info = registry.mechanism(mechanism)
    scenarios = [
        Scenario(dataset, table.content_hash, False, mechanism, dict(info.parameters), ratio, seed)
        for seed in range(seeds)
    ]
    return table, build_problem(table, scenarios, [load(info)() for _ in scenarios])
