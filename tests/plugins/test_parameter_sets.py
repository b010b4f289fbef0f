"""Parameter sets are differences: source and loaded class give the same whole sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.api import Method
from bench.plugins.contracts import joined_sets
from bench.plugins.registry import Registry, load

SOURCE = '''
from bench.api import Method
from bench.neural.method import LatentStackedMethod


class Parent(Method):
    """Two sets."""

    name = "parent"
    parameter_sets = {"default": {"a": 1, "b": 2}, "quick": {"b": 0}}


class Child(Parent):
    """Another default, one more parameter, and a set of its own."""

    name = "child"
    parameter_sets = {"default": {"b": 3, "c": 4}, "own": {"c": 5}}


class Silent(Parent):
    """Says nothing."""

    name = "silent"


class Whole(Method):
    """Full sets, as before."""

    name = "whole"
    parameter_sets = {"default": {"a": 1, "b": 2}, "literal": {"a": 3, "b": 4}}


class Variant(LatentStackedMethod):
    """A neural method that adds one parameter."""

    name = "variant"
    requires = ("torch",)
    parameter_sets = {"default": {"fill": "zero"}}
'''
EXPECTED = {
    "parent": {"default": {"a": 1, "b": 2}, "quick": {"a": 1, "b": 0}},
    "child": {
        "default": {"a": 1, "b": 3, "c": 4},
        "quick": {"a": 1, "b": 0, "c": 4},
        "own": {"a": 1, "b": 3, "c": 5},
    },
    "silent": {"default": {"a": 1, "b": 2}, "quick": {"a": 1, "b": 0}},
    "whole": {"default": {"a": 1, "b": 2}, "literal": {"a": 3, "b": 4}},
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Return a registry that has read the methods above."""
    (tmp_path / "methods.py").write_text(SOURCE, encoding="utf-8")
    return Registry.scan([tmp_path])


@pytest.mark.parametrize("name", EXPECTED)
def test_sets_join_along_the_bases_in_source_and_class(registry: Registry, name: str) -> None:
    info = registry.method(name)
    assert info.error is None
    assert info.parameter_sets == EXPECTED[name]
    assert load(info).parameter_sets == EXPECTED[name]
    assert load(info)().parameters == EXPECTED[name]["default"]


def test_a_variant_of_a_neural_method_inherits_what_it_does_not_name(registry: Registry) -> None:
    info = registry.method("variant")
    assert info.error is None
    default, literal = info.parameter_sets["default"], info.parameter_sets["literal"]
    assert (default["fill"], default["scaling"], default["clip_norm"]) == ("zero", "standard", 5.0)
    assert (literal["fill"], literal["scaling"], literal["clip_norm"]) == ("zero", "minmax", None)
    assert load(info).parameter_sets == info.parameter_sets
    assert info.tunable == load(info).tunable != {}


def test_every_baseline_is_loaded_with_the_sets_that_were_read() -> None:
    for info in Registry.scan().methods.values():
        if info.requires == ("torch",):
            assert load(info).parameter_sets == info.parameter_sets, info.name


def test_what_a_nearer_class_says_of_a_set_counts_before_its_bases() -> None:
    nearest_first = [{"quick": {"a": 3}}, {"default": {"a": 1, "b": 1}, "quick": {"a": 2, "b": 2}}]
    assert joined_sets(nearest_first) == {"default": {"a": 1, "b": 1}, "quick": {"a": 3, "b": 2}}
    assert joined_sets([]) == {"default": {}} == Method.parameter_sets
