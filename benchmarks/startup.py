"""How long the command line takes to answer: ``--help``, ``list``, and Table 6 from the shipped rows.

``python -m benchmarks.startup`` measures whole processes, from start to end, beside an interpreter that does
nothing. ``python -X importtime -m bench list`` says where the time goes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.common import ROOT, Line, Report, alternate, finish, medians, parsed, parser, spread

#: Seconds within which each command is to be over.
LIMITS = {"--help": 0.3, "list": 0.4, "table 6 --shipped": 1.5}
NOTHING = "an empty program"


def run_whole(command: Sequence[str]) -> None:
    """Run a command to its end; raises CalledProcessError if it fails."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parsed(parser("startup", __doc__, rounds=11), arguments)
    commands = {name: ["-m", "bench", *name.split()] for name in LIMITS}
    commands[NOTHING] = ["-c", ""]
    tasks = {name: partial(run_whole, words) for name, words in commands.items()}
    seconds = alternate(tasks, options.rounds)
    took = medians(seconds)
    lines = [
        Line(
            f"vsae-bench {name}",
            limit / took[name],
            took[name],
            limit,
            target=f"<= {limit:g} s",
            reached=took[name] <= limit,
            notes={"spread": spread(seconds[name]), NOTHING: took[NOTHING]},
        )
        for name, limit in LIMITS.items()
    ]
    return finish(Report("startup", "limit / ours", lines), options)


if __name__ == "__main__":
    raise SystemExit(main())
