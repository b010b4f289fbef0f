"""Claims: what the contrasts are, what decides, and that the paper's own are about rows and columns that exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.experiment.reader import load_spec, parse_spec
from bench.experiment.result import Result
from bench.report import ReportTable, collect
from bench.report.verdicts.claim_specs import Claim, claim_files, read_claims
from bench.report.verdicts.claims import JudgedClaim, as_json, judge_claim, judge_claims, seeds_for
from bench.report.verdicts.claims_page import claim_lines
from tests.report.golden import PUBLISHED, SPEC, seeds_of

FIRST = Claim(id="first", text="VSAE is first.", kind="below", row="VSAE_x", against=("Forest",))
GAP = Claim(
    id="gap", text="The gap grows.", kind="gap_grows", row="VSAE_x", against=("Forest",), start="Yeast", end="Mushroom"
)
#: What makes one seed harder than another, for every method alike.
HARD = [0.0, 0.5, -0.4, 0.2, -0.3, 0.1, 0.4, -0.5, 0.3, -0.2]


def errors(base: float, slope: float = 0.0) -> list[float]:
    """Return ten errors in units of the floor, whose own are one on every seed."""
    return [base + slope * index for index in range(10)]


def table(yeast: dict[str, list[float]], mushroom: dict[str, list[float]], seeds: int = 10) -> ReportTable:
    """Return the golden table from errors in units of the floor, per seed."""
    rows: list[Result] = []
    for dataset, metric, values in (("yeast", "nrmse_rel", yeast), ("mushroom", "pfc", mushroom)):
        floor = [2.0 + hard for hard in HARD][:seeds]
        rows += seeds_of("mean_mode", dataset, metric, floor)
        for method, own in values.items():
            protocol = "transductive" if method == "forest" else "inductive"
            scaled = [value * level for value, level in zip(own, floor, strict=False)]
            rows += seeds_of(method, dataset, metric, scaled, protocol=protocol)
    spec = parse_spec(SPEC, "t").model_copy(update={"seeds": tuple(range(10))})
    return collect(spec, rows, PUBLISHED)


def judged(claim: Claim, yeast: tuple[float, float], mushroom: tuple[float, float], seeds: int = 10) -> JudgedClaim:
    """Return the verdict where VSAE and the forest have these errors, with some spread."""
    first, second = ({"vsae": errors(own, 0.001), "forest": errors(other, -0.001)} for own, other in (yeast, mushroom))
    return judge_claim(claim, table(first, second, seeds))


def test_a_contrast_is_the_difference_on_the_same_seed_in_units_of_the_floor() -> None:
    found = judged(FIRST, (0.8, 0.9), (0.5, 0.6))
    assert [contrast.name for contrast in found.contrasts] == [
        "Yeast numerical, Forest",
        "Mushroom categorical, Forest",
    ]
    expected = [-0.1 + 0.002 * index for index in range(10)]
    assert found.contrasts[0].values == pytest.approx(expected)
    assert found.contrasts[1].values == pytest.approx(expected)


def test_ten_seeds_that_agree_decide() -> None:
    assert judged(FIRST, (0.8, 0.9), (0.5, 0.6)).verdict == "holds"
    found = judged(FIRST, (0.8, 0.9), (0.6, 0.5))
    assert found.verdict == "does not hold" and found.against == ("Mushroom categorical, Forest",)
    assert found.supporting == ("Yeast numerical, Forest",)
    level = judged(FIRST, (0.8, 0.9), (0.5, 0.5))
    assert level.verdict == "undecided" and level.why == "1 of 2 contrasts are clearly so, none the other way"


def test_three_seeds_decide_nothing() -> None:
    found = judged(FIRST, (0.8, 0.9), (0.5, 0.6), seeds=3)
    assert found.verdict == "undecided" and found.why == "3 seeds in 2 of 2 contrasts, and a verdict needs 10"
    assert judge_claim(FIRST, table({}, {})).verdict == "not run"
    assert len(seeds_for("tuned")) == 7 and 2 not in seeds_for("tuned")


def test_a_gap_grows_if_the_distance_in_the_second_columns_is_larger() -> None:
    found = judged(GAP, (0.8, 0.9), (0.5, 0.8))
    assert found.verdict == "holds" and found.contrasts[0].values == pytest.approx([-0.2] * 10)
    assert judged(GAP, (0.5, 0.8), (0.8, 0.9)).verdict == "does not hold"


def test_probabilities_over_columns_say_who_is_better() -> None:
    spec = load_spec("7")
    rows = []
    for ratio in (0.3, 0.5, 0.7):
        for method, level in (("mean_mode", 1.0), ("vsae", 0.8), ("vae", 0.9), ("cvae", 0.805)):
            values = [level + 0.001 * index for index in range(3)]
            rows += seeds_of(method, "mnist_mnist", "mse_sum", values, ratio=ratio)
    from bench.report import read_published

    full = collect(spec, rows, read_published())
    claim = Claim(id="x", text="x", kind="below", row="VSAE", against=("VAE", "CVAE w/ mask"))
    better, level_with = judge_claim(claim, full).equivalences
    assert (better.against, better.columns) == ("VAE", 3) and better.better > 0.95 and better.worse == 0
    assert level_with.equal > 0.95
    reverse = claim.model_copy(update={"row": "VAE", "against": ("VSAE",)})
    assert judge_claim(reverse, full).equivalences[0].worse > 0.95


def test_the_papers_claims_are_about_what_its_tables_have() -> None:
    assert [path.stem for path in claim_files()] == [f"table{number:02d}" for number in range(5, 12)]
    for path in claim_files():
        spec = read_claims(path)
        empty = collect(load_spec(str(spec.table)), [])
        assert spec.table == empty.spec.number
        found = judge_claims(spec, empty)
        assert {each.verdict for each in found} == {"not run"} and all(each.contrasts for each in found)
        assert len({each.claim.id for each in found}) == len(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("table = 6\n", "claims: Field required"),
        ('table = 6\n[[claims]]\nid = "a"\ntext = "b"\nkind = "belw"\nrow = "VSAE"\n', ":5: claims.0.kind: "),
        ('table = 6\n[[claims]]\nid = "a"\ntext = "b"\nkind = "gap_grows"\nrow = "VSAE"\n', "needs 'from' and 'to'"),
        ('table = 6\n[[claims]]\nid = "a"\ntext = "b"\nkind = "below"\nrow = "x"\nfrom = "a"\nto = "b"\n', "takes no"),
        ("table = \n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "table06.toml"
    path.write_text(text)
    with pytest.raises(BenchError) as caught:
        read_claims(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_claim_about_a_row_or_column_that_is_not_there_is_one_line() -> None:
    golden = table({}, {})
    with pytest.raises(BenchError, match="has no row 'VSAE'. Did you mean 'VSAE_x'"):
        judge_claim(FIRST.model_copy(update={"row": "VSAE"}), golden)
    with pytest.raises(BenchError, match="has no published column 'Iris'"):
        judge_claim(GAP.model_copy(update={"end": "Iris"}), golden)


def test_lines_and_json() -> None:
    found = judged(FIRST, (0.8, 0.9), (0.6, 0.5))
    lines = list(claim_lines(found))
    assert lines[0] == "  - does not hold (default, quick): 1 of 2 contrasts are clearly the other way"
    assert lines[1].startswith("      most for it: Yeast numerical, Forest: -0.091 [")
    assert lines[2].startswith("      most against it: Mushroom categorical, Forest: +0.109 [")
    (told,) = json.loads(json.dumps(as_json([found]), allow_nan=False))
    assert told["verdict"] == "does not hold" and told["seeds"] == 10
    assert told["command"] == "vsae-bench run golden --preset quick --seeds 0-9"
    assert told["contrasts"][0]["mean"] == pytest.approx(-0.091)
