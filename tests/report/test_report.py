"""A report in all its forms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.experiment.reader import load_spec, table_ids
from bench.report import ReportTable, collect, read_published, write_report
from bench.report.csv import csv_table
from bench.report.latex import latex_table
from bench.report.markdown import markdown_table
from tests.report.golden import filled


@pytest.mark.parametrize("name", table_ids())
def test_every_table_is_rendered_in_every_form(name: str) -> None:
    spec = load_spec(name)
    empty, full = (collect(spec, rows, read_published()) for rows in ([], filled(spec)))
    assert {cell.status for cell in empty.cells} == {"missing"}
    assert {cell.status for cell in full.cells} <= {"ok", "failed"}
    for table in (empty, full):
        body = latex_table(table, published=True)
        assert body.count(r"\begin{") == body.count(r"\end{")
        lines = [line for line in markdown_table(table, published=True).splitlines() if line.startswith("|")]
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
        assert len(csv_table(table).splitlines()) == 1 + len(table.cells)
    assert "no stored rows yet" in markdown_table(empty)


def test_a_report_is_written_as_files_named_after_the_table(tmp_path: Path, golden: ReportTable) -> None:
    written = write_report(golden, tmp_path / "out", plot=False)
    assert [path.name for path in written] == ["golden.tex", "golden.md", "golden.csv"]
    assert written[0].read_text(encoding="utf-8") == latex_table(golden, published=True)


def test_rendering_loads_no_heavy_package() -> None:
    code = (
        "import sys, bench.experiment.reader, bench.report as r, bench.report.latex as l, bench.report.markdown as m\n"
        "import bench.report.csv as c, bench.report.terminal as t\n"
        "table = r.collect(bench.experiment.reader.load_spec('6'), [], r.read_published())\n"
        "l.latex_table(table), m.markdown_table(table), c.csv_table(table), t.print_table(table)\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
