"""Where to work: durations as people write them, and what is refused before anything runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.paths import shipped_rows_folder
from bench.run.request import DEFAULT_STORE, Place, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("9m", 540), ("90s", 90), ("90", 90), ("1h30m", 5400), ("1.5h", 5400), (" 2m30s ", 150)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 m", "1m2h", "-1", "1d", "0m", "inf"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(BenchError, match="--time-budget takes a duration"):
        parse_duration(text)


def test_a_time_budget_begins_when_it_is_asked_for() -> None:
    assert Place().deadline() is None
    deadline = Place(time_budget="90s").deadline()
    assert deadline is not None and 89 < deadline - time.time() <= 90


def test_the_rows_to_read_are_the_stores_and_beneath_them_those_that_ship() -> None:
    place = Place(stores=(Path("mine"), Path("theirs")))
    assert place.store == Path("mine") and place.folders == (Path("mine"), Path("theirs"))
    assert Place().folders == (DEFAULT_STORE,)
    assert Place(stores=(Path("mine"),), shipped=True).folders == (Path("mine"), shipped_rows_folder())


@pytest.mark.parametrize(("place", "words"), [(Place(device="gpu"), "unknown device"), (Place(time_budget="x"), "9m")])
def test_a_bad_place_is_one_clear_error(place: Place, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        place.require_valid()


def test_a_store_to_read_from_has_to_be_there(tmp_path: Path) -> None:
    Place(stores=(tmp_path / "made later", tmp_path)).require_valid()
    with pytest.raises(BenchError, match="nowhere is no folder to read rows from"):
        Place(stores=(tmp_path, tmp_path / "nowhere")).require_valid()
