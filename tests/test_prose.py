"""What README says of the rows that ship with the suite is what those rows say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bench.experiment.expand import sets_of
from bench.experiment.reader import load_spec
from bench.paths import claims_folder, shipped_rows_folder
from bench.plugins.registry import Registry
from bench.report import ReportTable, asked_of_store, collect, read_published
from bench.report.prose import compared, judged
from bench.run.store import Store

README = Path(__file__).resolve().parents[1] / "README.md"
HEADING = "### What the rows that ship say"
#: Data sets with rows of this version.
CURRENT = {
    "fashion_label",
    "heart_cleveland",
    "heart",
    "yeast",
    "whitewine",
    "phishing",
    "phishing_websites",
    "mushroom",
    "mnist_label",
    "mnist_mnist",
    "ict_mmmo",
}


@cache
def shipped(number: int, parameter_set: str = "default") -> ReportTable:
    """Return a table as `vsae-bench table --published --shipped` shows it."""
    spec, methods = load_spec(str(number)), Registry.scan().methods
    rows = Store(shipped_rows_folder()).rows(**asked_of_store(spec))
    known = {name: sets_of(info) for name, info in methods.items()}
    return collect(spec, rows, read_published(), parameter_set=parameter_set, known_methods=known)


def published_no_better() -> list[str]:
    images = [cell for cell in shipped(10).cells if cell.spec.attribute == "image"]
    mean = "no better than the mean image"
    return [
        f"{judged(shipped(6).cells, published=True)} in Table 6 are no better than the mean or the mode",
        f"{judged(shipped(7).cells, published=True)} in Table 7 and {judged(images, published=True)} for images in "
        f"Table 10 {mean}",
    ]


def unobserved_term() -> list[str]:
    table = shipped(6)
    found = compared(table, "VSAE without the term of x_u", "VSAE")
    worse = {cell.spec.column for cell in found.cells} - {cell.spec.column for cell in found.better}
    assert {table.spec.columns[column].name for column in worse} == {"Heart (mixed) numerical"}
    clearly = {cell.spec.dataset for cell in found.by_more_than_sd}
    assert clearly == {"phishing_websites", "mushroom"}
    return [
        f"without it the mean error is lower in {len(found.better)} of {len(found.cells)} columns of Table 6, all but "
        f"the NRMSE of Heart's numbers, and by more than either standard deviation in {len(found.by_more_than_sd)}, "
        "those of Phishing (11055) and Mushroom",
    ]


def curves() -> list[str]:
    wild: dict[tuple[str, str], set[int]] = {}
    seen = 0
    for row in Store(shipped_rows_folder()).rows(CURRENT):
        # Rows of the version before do not say how their epoch was chosen.
        curve = (
            [error for _, error in row.diagnostics.get("validation_curve", ())]
            if "chosen_by" in row.diagnostics
            else []
        )
        seen += bool(curve)
        if any(error > 3 for error in curve[len(curve) // 10 :]):
            wild.setdefault((row.cell.method, row.cell.dataset), set()).add(row.cell.seed)
    assert seen > 100 and wild == {("misgan", "whitewine"): {1}}
    return [
        "After the first tenth of a training no held-out error of theirs is above three times the floor's, but for one "
        "seed of MisGAN on White wine"
    ]


def conclusions() -> list[str]:
    judged = json.loads((claims_folder() / "claims.json").read_text(encoding="utf-8"))
    own = [each for each in judged if (each["table"], each["parameter_set"]) == ("table05", "default")]
    assert {each["seeds"] for each in own} == {10} and not any(each["supporting"] + each["against"] for each in own)
    count = sum(len(each["contrasts"]) for each in own)
    return [f"With ten seeds none of the {count} differences behind Table 5's claims is clearly for or against them"]


CLAIMS = (published_no_better, unobserved_term, curves, conclusions)


def section() -> str:
    """Return README's section on the rows that ship, in one line."""
    text = README.read_text(encoding="utf-8").split(HEADING)[1]
    return " ".join(re.split(r"(?m)^#", text)[0].split())


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_readme_says_of_shipped_rows_is_computed_from_them(claim: Callable[[], list[str]]) -> None:
    said = section()
    for sentence in claim():
        assert sentence in said


def test_readme_states_no_number_of_shipped_rows_that_is_not_computed() -> None:
    rest = re.sub(r"`[^`]*`", "", section())
    for sentence in (sentence for claim in CLAIMS for sentence in claim()):
        rest = rest.replace(sentence, "")
    assert re.findall(r"\d+", rest.replace("MNIST+MNIST", "")) == []
