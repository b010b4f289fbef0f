"""A table as LaTeX: what is printed, and that a real LaTeX takes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bench.experiment.reader import load_spec, table_ids
from bench.report import ReportTable, collect, read_published
from bench.report.latex import latex_document, latex_table
from tests.report.golden import HOSTILE, filled

GOLDEN_LATEX = r"""\begin{table}[t]
\centering
\caption{\textbf{Golden \& small.} Lower is better. Mean $\pm$ sample standard deviation over n = 3 seeds (0, 1, 2), each with its own split, mask and initialisation. Here: preset quick, parameter set default, protocol inductive, in rows marked \textdaggerdbl{} transductive. $\Delta$: below 0.0005. Bold: best of all rows, the floor included.}
\label{tab:golden}
\smallskip
\small
\sbox0{%
\begin{tabular}{lccc}
\toprule
 & \multicolumn{2}{c}{Yeast} & \multicolumn{1}{c}{Mushroom} \\
\cmidrule(lr){2-3}\cmidrule(lr){4-4}
Attribute type & numerical & RMSE / SD & categorical\textsuperscript{\textdagger{}} \\
\midrule
Forest\textsuperscript{\textdaggerdbl{}} & 0.400 $\pm$ 0.010 & 0.900 $\pm$ 0.010 & ---\textsuperscript{a} \\
\quad published & 0.424 $\pm$ $\Delta$ &  & 0.419 $\pm$ 0.002 \\
\addlinespace
VSAE\_x & {\boldmath\textbf{0.350 $\pm$ $\Delta$}} & {\boldmath\textbf{0.850 $\pm$ $\Delta$}} & 0.390 $\pm$ 0.014\textsuperscript{b} \\
\quad published & 0.4190 $\pm$ \textless{}0.01 &  & 0.416 \\
\addlinespace
\textit{Odd} & -- & -- & -- \\
\addlinespace
\textit{Mean/mode} & 0.420 $\pm$ 0.020 & 0.990 $\pm$ 0.010 & {\boldmath\textbf{0.410 $\pm$ 0.010}} \\
\bottomrule
\end{tabular}}%
\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi

\medskip
\begin{minipage}{\linewidth}\footnotesize\raggedright
\textsuperscript{\textdagger{}}\,only a subset of this data set could be had: not comparable with the published numbers.\\
\textsuperscript{\textdaggerdbl{}}\,transductive: fitted on the very rows it imputes.\\
\textsuperscript{a}\,failed: out of memory \& time.\\
\textsuperscript{b}\,n = 2 of 3 seeds: seed 1 not run.\\
--: not run; ---: no result, see its letter.\\
Rows in italics are not in the paper: references, and the floor.\\
100\% real.\\
Published values no better than our floor (Mean/mode): 1 of 2 (Forest on Yeast).\\
Our values no better than the floor (Mean/mode): 0 of 5.
\end{minipage}
\end{table}
"""  # noqa: E501


def test_stored_rows_become_this_latex(golden: ReportTable) -> None:
    assert latex_table(golden, published=True) == GOLDEN_LATEX
    assert "published &" not in latex_table(golden)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_a_real_latex_compiles_every_table_empty_filled_and_hostile(tmp_path: Path, golden: ReportTable) -> None:
    published = read_published()
    tables = [golden]
    for name in table_ids():
        spec = load_spec(name)
        tables += [collect(spec, [], published), collect(spec, filled(spec), published)]
    spec = load_spec("5")
    hostile = spec.model_copy(
        update={
            "title": HOSTILE,
            "caption": HOSTILE,
            "notes": (HOSTILE, HOSTILE),
            "sections": tuple(section.model_copy(update={"label": f"[{HOSTILE}"}) for section in spec.sections),
            "rows": tuple(row.model_copy(update={"label": f"*{HOSTILE}"}) for row in spec.rows),
            "columns": tuple(c.model_copy(update={"label": HOSTILE, "group": f"[{HOSTILE}"}) for c in spec.columns),
        }
    )
    tables.append(collect(hostile, filled(spec), published))
    lines = tuple("".join(map(chr, range(start, start + 128))) for start in range(0, 0x2500, 128))
    letters = spec.model_copy(update={"notes": lines})
    tables.append(collect(letters, []))
    (tmp_path / "all.tex").write_text(latex_document(tables, published=True), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    log = (tmp_path / "all.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    assert "Missing character" not in log
