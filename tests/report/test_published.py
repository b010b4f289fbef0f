"""The published numbers: how they print, and what broken ones say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.experiment.specs import TableSpec
from bench.report import collect, read_published
from bench.report.published import PublishedValue
from bench.report.text import published_text
from tests.report.golden import key


def test_published_numbers_print_as_published() -> None:
    assert published_text(PublishedValue("0.3840", "0.001"), 0.0005) == "0.3840 ± 0.001"
    assert published_text(PublishedValue("0.3840", sd_below=0.0005), 0.0005) == "0.3840 ± Δ"
    assert published_text(PublishedValue("0.3840", sd_below=0.00005), 0.0005) == "0.3840 ± <0.00005"


def test_a_published_number_that_is_not_there_is_an_error(spec: TableSpec) -> None:
    with pytest.raises(BenchError, match="Table 3, Forest, Yeast/all, MCAR at 0.5, nrmse"):
        collect(spec, [], {key("VSAE", "Yeast", "nrmse"): PublishedValue("0.4")})


def test_broken_published_numbers_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    header = "table,method,dataset,attribute,mechanism,ratio,metric,mean,std,std_below\n"
    line = "5,VAE,Yeast,all,MAR,,nrmse,0.485,0.004,\n"
    for text, said in (
        (header + line + line, "3: a second number for Table 5, VAE, Yeast/all, MAR, nrmse"),
        (header + line.replace("0.485", "about"), "2: could not convert"),
        (header + "5,VAE\n", "2: "),
        (header.replace("std,", ""), "1: column 'std' is missing"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BenchError) as caught:
            read_published(path)
        assert str(caught.value).startswith(f"{path}:{said}")
    with pytest.raises(BenchError, match="cannot be read"):
        read_published(tmp_path / "none.csv")
