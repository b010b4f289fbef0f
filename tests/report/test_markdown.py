"""A table as Markdown, and text that would be read as markup."""

from __future__ import annotations

from bench.experiment.reader import parse_spec
from bench.report import ReportTable, collect
from bench.report.latex import escape
from bench.report.markdown import markdown_table
from tests.report.golden import SPEC

GOLDEN_MARKDOWN = r"""### Table 3: Golden &amp; small.

Lower is better. Mean ± sample standard deviation over n = 3 seeds (0, 1, 2), each with its own split, mask and initialisation. Here: preset quick, parameter set default, protocol inductive, in rows marked ‡ transductive. Δ: below 0.0005. Bold: best of all rows, the floor included.

| Attribute type | Yeast<br>numerical | Yeast<br>RMSE / SD | Mushroom<br>categorical<sup>†</sup> |
| --- | :---: | :---: | :---: |
| Forest<sup>‡</sup> | 0.400 ± 0.010 | 0.900 ± 0.010 | —<sup>a</sup> |
| VSAE\_x | **0.350 ± Δ** | **0.850 ± Δ** | 0.390 ± 0.014<sup>b</sup> |
| *Odd* | – | – | – |
| *Mean/mode* | 0.420 ± 0.020 | 0.990 ± 0.010 | **0.410 ± 0.010** |

- † a subset of the data set, not comparable with the published numbers. ‡ transductive: fitted on the very rows it imputes. In italics, not in the paper: references, the floor.
- – not run; — no result; a failed: out of memory &amp; time; b n = 2 of 3 seeds: seed 1 not run.
- 100% real.
"""  # noqa: E501


def test_stored_rows_become_this_markdown(golden: ReportTable) -> None:
    assert markdown_table(golden) == GOLDEN_MARKDOWN
    assert "| &nbsp;&nbsp;published | 0.4190 ± &lt;0.01 |  | 0.416 |" in markdown_table(golden, published=True)


def test_hostile_text_is_escaped() -> None:
    assert escape(r"a_b & 50% {x} \y #1 $") == r"a\_b \& 50\% \{x\} \textbackslash{}y \#1 \$"
    assert escape("[1] *") == "{[}1{]} {*}"
    assert escape("± Δ é 中 ﬁ\n") == r"$\pm$ $\Delta$ é \texttt{U+4E2D} fi "
    spec = parse_spec(SPEC, "t")
    row = spec.rows[0].model_copy(update={"label": "a|b <c> *d* `e`"})
    table = collect(spec.model_copy(update={"rows": (row, *spec.rows[1:])}), [])
    assert r"| a\|b &lt;c&gt; \*d\* \`e\`<sup>‡</sup> |" in markdown_table(table)
