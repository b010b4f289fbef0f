"""A table as CSV."""

from __future__ import annotations

import csv
import io

import pytest

from bench.report import ReportTable
from bench.report.csv import csv_table, plain


def test_csv_has_one_line_per_cell_with_full_precision(golden: ReportTable) -> None:
    records = list(csv.DictReader(io.StringIO(csv_table(golden))))
    assert len(records) == 12
    forest, vsae = records[0], records[3]
    assert (forest["row"], forest["column"], forest["protocol"]) == ("Forest", "Yeast numerical", "transductive")
    assert (forest["n"], forest["seeds"], forest["published_mean"], forest["published_sd_below"]) == (
        "3",
        "0 1 2",
        "0.424",
        "0.0005",
    )
    assert float(forest["difference"]) == pytest.approx(0.4 - 0.424)
    assert (forest["verdict"], forest["published_verdict"]) == ("better than floor", "no better than floor")
    assert float(vsae["mean"]) == pytest.approx(0.35 + 0.0001 / 3, abs=1e-15)
    assert (records[2]["status"], records[2]["reason"], records[2]["mean"]) == (
        "failed",
        "failed: out of memory & time",
        "",
    )
    assert (records[5]["variant"], records[5]["difference"]) == ("subset", "")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+a", "'+a"),
        ("@a", "'@a"),
        ("-a", "'-a"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        (-0.5, -0.5),
        (None, None),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\t=a", " =a"),
    ],
)
def test_no_text_is_a_formula_or_an_escape(value: object, written: object) -> None:
    assert plain(value) == written
