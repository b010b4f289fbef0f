"""Curves over the missing ratio: what is drawn is what the points are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

import bench.report.figures.curves as curves
from bench.report.figures.curves import RatioPanel
from bench.report.figures.style import Heading


def test_the_picture_draws_the_points_and_their_bars() -> None:
    points = tuple(curves.RatioPoint(ratio, ratio + 1, 0.1, 3) for ratio in (0.1, 0.5, 0.9))
    alone = (curves.RatioPoint(0.5, 2.0, None, 1),)
    panel = RatioPanel("error", (curves.RatioCurve("floor", alone, True), curves.RatioCurve("ours", points)))
    axes = curves.draw_ratios([panel], Heading("Title", "details")).axes[0]
    floor, ours = axes.containers
    assert isinstance(floor, ErrorbarContainer) and isinstance(ours, ErrorbarContainer)
    assert ours.lines[0].get_ydata() == pytest.approx([1.1, 1.5, 1.9])
    assert ours.lines[0].get_xdata() == pytest.approx([0.1, 0.5, 0.9], abs=0.01)
    bars = [segment[:, 1] for segment in ours.lines[2][0].get_segments()]
    assert np.ravel(bars) == pytest.approx([1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
    assert np.ptp(floor.lines[2][0].get_segments()[0][:, 1]) == 0
    assert axes.get_xlabel() == "missing ratio (share of entries hidden)" and axes.get_ylabel() == "error"
