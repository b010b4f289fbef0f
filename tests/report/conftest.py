"""The golden table, empty and filled."""

from __future__ import annotations

import pytest

from bench.experiment.reader import parse_spec
from bench.experiment.specs import TableSpec
from bench.report import ReportTable, collect
from tests.report.golden import PUBLISHED, SPEC, golden_rows


@pytest.fixture
def spec() -> TableSpec:
    return parse_spec(SPEC, "golden.toml")


@pytest.fixture
def golden(spec: TableSpec) -> ReportTable:
    return collect(spec, golden_rows(), PUBLISHED)
