"""The verb ``compare``: a verdict on every published number."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from bench.cli.console import console
from bench.cli.options import Default, takes
from bench.cli.table import collected
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.experiment.scope import Scope
    from bench.run.request import Place


@takes(
    "tables",
    "preset",
    "parameters",
    "precision",
    "seeds",
    "require",
    "as_json",
    "store",
    "shipped",
    "plugins",
    tables=Default(None, "all of the paper's"),
    preset=Default("", "the fullest complete one"),
)
def compare(scope: Scope, place: Place, require: tuple[str, ...], as_json: bool) -> int:
    """Judge the published numbers by stored rows: exit code 1 if --require is not met."""
    from dataclasses import replace

    from bench.experiment.reader import load_spec, table_ids
    from bench.report.verdicts import compare as verdicts
    from bench.report.verdicts.page import print_judged

    demands = [_demand(text) for text in require]
    numbered = tuple(name for name in table_ids() if load_spec(name).number is not None)
    tables, told = collected(replace(scope, tables=scope.tables or numbered), place)
    judged = verdicts.judge(tables)
    if not judged.judgements:
        raise BenchError("none of these tables has a published number to compare with")
    if as_json:
        print(json.dumps(verdicts.as_json(judged), indent=1, allow_nan=False))
    else:
        print_judged(judged, console())
    lacking = [*told, *verdicts.require(judged, demands)]
    for line in lacking:
        console(stderr=True).print(line, highlight=False)
    return 1 if verdicts.require(judged, demands) else 0


def _demand(text: str) -> tuple[str, str, int]:
    """Read a demand such as ``reproduced>=3``; raises BenchError."""
    from bench.errors import closest
    from bench.report.rules.cells import VERDICTS

    match = re.fullmatch(r"\s*([a-z ]+?)\s*(>=|<=|=)\s*(\d{1,4})\s*", text)
    if match is None:
        raise BenchError(f"--require takes a verdict and a number, such as 'reproduced>=3', not '{text[:60]}'")
    if match[1] not in VERDICTS:
        raise BenchError(f"--require: there is no verdict '{match[1]}'.{closest(match[1], VERDICTS)}")
    return match[1], match[2], int(match[3])
