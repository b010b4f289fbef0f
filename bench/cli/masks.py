"""The verb ``masks``: write the mask that a row of a seed has, for another project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.options import takes
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.experiment.scope import Scope
    from bench.run.request import Place


@takes("dataset", "mechanism", "ratio", "seed", "plugins", "mask")
def masks(scope: Scope, place: Place, mask: Path) -> None:
    """Write the mask of a data set, mechanism, ratio and seed as a file that `run --masks` and others read."""
    from bench.experiment.mask_file import Mask
    from bench.files.fetch import load_sound
    from bench.plugins.registry import Registry, load
    from bench.problem.build import build_problem
    from bench.problem.scenario import Scenario

    scope.require_valid()
    if len(scope.datasets) != 1:
        raise BenchError("a file holds the mask of one data set")
    registry = Registry.scan(place.plugins)
    (dataset,), (mechanism,), (ratio,), (seed,) = scope.datasets, scope.mechanisms, scope.ratios, scope.seeds
    info = registry.mechanism(mechanism)
    table = load_sound(load(registry.dataset(dataset))(), include_target=False).table
    scenario = Scenario(dataset, table.content_hash, False, mechanism, dict(info.parameters), ratio, seed)
    problem = build_problem(table, [scenario], [load(info)()])
    Mask(problem.masks[0], tuple(table.schema.names)).write(mask)
    print(f"wrote {mask}: {len(table)} rows, {len(table.schema)} attributes, mask_hash {problem.mask_hash(0)}")
