"""The verb ``env``: hardware and versions."""

from __future__ import annotations

from bench.cli.options import takes


@takes()
def env() -> None:
    """Show hardware and versions, as stored with every row."""
    import json

    from bench.run.machine import environment

    print(json.dumps(environment(), indent=2))
