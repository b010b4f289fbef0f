"""The verb ``claims``: whether what the paper concludes from its tables holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.cli.console import console
from bench.cli.options import Default, takes
from bench.cli.table import collected
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.experiment.scope import Scope
    from bench.report.verdicts.claim_specs import ClaimSpec
    from bench.report.verdicts.claims import JudgedClaim
    from bench.run.request import Place


@takes(
    "tables",
    "preset",
    "parameters",
    "as_json",
    "store",
    "shipped",
    "plugins",
    tables=Default(None, "all of the paper's"),
    preset=Default("", "the fullest complete one"),
    parameters=Default("", "default, literal and tuned"),
)
def claims(scope: Scope, place: Place, as_json: bool) -> None:
    """Judge what the paper concludes from its tables, by stored rows of ten seeds."""
    from bench.experiment.reader import find_spec
    from bench.report.verdicts import claims as verdicts
    from bench.report.verdicts.claim_specs import claim_files, read_claims
    from bench.report.verdicts.claims_page import print_claims

    files = {path.stem: path for path in claim_files()}
    asked = [find_spec(name).stem for name in scope.tables] or list(files)
    for name in asked:
        if name not in files:
            raise BenchError(f"the paper claims nothing of {name}; there are claims about {', '.join(files)}")
    sets = (scope.parameter_set,) if scope.parameter_set else ("default", "literal", "tuned")
    judged: list[JudgedClaim] = []
    for name in asked:
        spec = read_claims(files[name])
        each = [_judged(name, parameter_set, scope, place, spec) for parameter_set in sets]
        judged += [verdict for of_claim in zip(*each, strict=True) for verdict in of_claim]
    if as_json:
        print(json.dumps(verdicts.as_json(judged), indent=1, allow_nan=False))
    else:
        print_claims(judged, console())


def _judged(name: str, parameter_set: str, scope: Scope, place: Place, spec: ClaimSpec) -> list[JudgedClaim]:
    """Return the verdicts on the claims about a table under a parameter set."""
    from dataclasses import replace

    from bench.report.verdicts.claims import judge_claims, seeds_for

    seeds = tuple(seeds_for(parameter_set))
    own = replace(scope, tables=(name,), parameter_set=parameter_set, seeds=seeds)
    (table,), _ = collected(own, place, tuned_for_all=False)
    return judge_claims(spec, table)
