"""A table on the terminal."""

from __future__ import annotations

import io

import pytest

from bench.report import ReportTable
from bench.report.terminal import print_table


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_shows_every_number_at_any_width(golden: ReportTable, width: int) -> None:
    from rich.console import Console

    stream = io.StringIO()
    print_table(golden, Console(file=stream, width=width))
    text = stream.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    for number in ("0.400 ± 0.010", "0.424 ± Δ", "0.4190 ± <0.01", "0.390 ± 0.014 b", "0.850 ± Δ", "0.410 ± 0.010"):
        assert number in text
    # One label column per part: the narrow console needs three parts, the wide one a single one.
    assert text.count("VSAE_x ") == {40: 3, 80: 1, 200: 1}[width]
