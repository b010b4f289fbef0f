"""Anomalies of published numbers: the paper's own are found, and numbers without any give none."""

from __future__ import annotations

from bench.experiment.reader import load_spec, parse_spec
from bench.report import collect, read_published
from bench.report.audit.anomalies import at_floor, equal_deviations, far_above_floor, published_twice, small_deviations
from bench.report.published import PublishedValue
from tests.report.golden import PUBLISHED, SPEC, filled, seeds_of


def test_the_papers_equal_deviations_and_double_numbers_are_found() -> None:
    published = read_published()
    assert "Table 6, Heart: MissForest and MICE both have 0.026, 0.005" in list(equal_deviations(published))
    twice = list(published_twice(published))
    assert len(twice) == 2
    assert any("MVAE on MNIST+SVHN, sum at 0.5: 0.1309 (Table 8) and 0.1202 (Table 9)" in line for line in twice)
    assert any(line.startswith("HI-VAE") for line in twice)
    unlike = {key: PublishedValue("1", f"{index}.5") for index, key in enumerate(published)}
    assert list(equal_deviations(unlike)) == []


def test_numbers_are_held_against_the_floor() -> None:
    floor = seeds_of("mean_mode", "mushroom", "pfc", [0.37, 0.40, 0.43], parameters={})
    table = collect(parse_spec(SPEC, "t"), floor, PUBLISHED)
    # Published are 0.419 with 0.002, and 0.416; the floor has 0.400 with 0.03.
    assert list(far_above_floor([table])) == [] and list(at_floor([table])) == []
    assert list(small_deviations([table])) == ["Table 3: 1 of 1"]
    low = seeds_of("mean_mode", "mushroom", "pfc", [0.2, 0.2, 0.2], parameters={})
    told = list(far_above_floor([collect(parse_spec(SPEC, "t"), low, PUBLISHED)]))
    assert told[0] == "Table 3, Forest, Mushroom categorical: 0.419, floor 0.2000" and len(told) == 2
    same = seeds_of("mean_mode", "mushroom", "pfc", [0.416, 0.416, 0.416], parameters={})
    assert len(list(at_floor([collect(parse_spec(SPEC, "t"), same, PUBLISHED)]))) == 2


def test_what_does_not_compare_is_no_anomaly() -> None:
    spec = load_spec("11")
    table = collect(spec, filled(spec), read_published())
    for rule in (far_above_floor, at_floor, small_deviations):
        assert list(rule([table])) == []
