"""The words and numbers of a rendered table, in plain Unicode text; each renderer escapes them for its own language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from bench.experiment.presets import HIGHEST
from bench.experiment.specs import ColumnSpec
from bench.report.cell import ReportCell
from bench.report.published import PublishedValue
from bench.report.rules.cells import MARKS, Verdict
from bench.report.table import ReportTable

#: What is printed if there is no number.
DASHES = {
    "missing": "–",
    "unavailable": "n/a",
    "unobtained": "no data",
    "failed": "—",
    "skipped": "—",
    "unscored": "—",
}
SUBSET_MARK = "†"
TRANSDUCTIVE_MARK = "‡"
STAND_IN_MARK = "§"
PUBLISHED_LABEL = "published"
#: The verdicts on a published number that stand as a mark beside ours; the others are no comparison of values.
COMPARED: tuple[Verdict, ...] = ("reproduced", "better", "worse", "undecided")
AT_FLOOR_MARK = MARKS["no better than the floor in the paper"]
NO_BETTER_MARK = "⊥"
#: Of a number that another preset moves by more than either standard deviation.
BUDGET_MARK = "≠"
#: By the field of a cell that lists seeds: the mark, and what it says of at least one of them.
TRAINING_MARKS = {
    "collapsed": ("↓", "collapsed: within 1 % of the floor, or worse, on held-out entries"),
    "undertrained": ("↗", "best in the last tenth of the training"),
    "kept_last": ("#", "last epoch kept, as held-out entries say little of what is not missing at random"),
}
#: Reasons under a table, and characters of each; the CSV has all of them in full.
MOST_REASONS = 3
MOST_OF_A_REASON = 240


@dataclass(frozen=True)
class CellText:
    """The text of a cell, the marks that follow it as a superscript, and whether it is the best of its column."""

    text: str
    marks: str = ""
    bold: bool = False

    @property
    def plain(self) -> str:
        """Text and marks without any typography."""
        return f"{self.text} {self.marks}".strip() if self.marks else self.text


def number_text(value: float, digits: int) -> str:
    """Return a number with a fixed number of decimals, in powers of ten if it is very large."""
    return f"{value:.{digits}f}" if abs(value) < 10_000 else f"{value:.3g}"


def decimal_text(value: float) -> str:
    """Return a small number in plain decimals, without trailing zeros."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def cell_text(table: ReportTable, cell: ReportCell, published: bool = False) -> CellText:
    """Return what a cell prints: mean ± standard deviation, or the dash of its status, and its marks.

    With ``published`` the verdict on the number of the paper that stands beside it is among the marks.
    """
    covered = table.column_is_subset(cell.spec.column) or table.section_is_subset(cell.spec.section)
    marks = SUBSET_MARK if cell.subset and not covered else ""
    if cell.mean is None:
        return CellText(DASHES[cell.status], marks + cell.mark)
    comparison = table.comparison(cell) if published else None
    if comparison is not None and comparison.verdict in COMPARED:
        marks += MARKS[comparison.verdict]
    if cell.verdict == "no better than floor":
        marks += NO_BETTER_MARK
    if cell.disagreeing:
        marks += BUDGET_MARK
    marks += "".join(mark for name, (mark, _) in TRAINING_MARKS.items() if getattr(cell, name))
    text = number_text(cell.mean, cell.digits)
    if cell.sd is not None:
        delta = table.spec.format.delta
        small = delta is not None and cell.sd < delta
        text += " ± " + ("Δ" if small else number_text(cell.sd, cell.digits))
    return CellText(text, marks + cell.mark, cell.best)


def published_text(value: PublishedValue, delta: float | None) -> str:
    """Return a published cell as printed there; its Δ as a bound if it stands for another one than ours."""
    if value.sd_text:
        return f"{value.mean_text} ± {value.sd_text}"
    if value.sd_below is None:
        return value.mean_text
    return f"{value.mean_text} ± " + ("Δ" if value.sd_below == delta else f"<{decimal_text(value.sd_below)}")


def published_cell(table: ReportTable, cell: ReportCell) -> CellText:
    """Return the published number beside a cell, marked if it is no better than our floor; empty if there is none."""
    if cell.published is None:
        return CellText("")
    mark = AT_FLOOR_MARK if cell.published_verdict == "no better than floor" else ""
    return CellText(published_text(cell.published, table.spec.format.delta), mark)


def row_label(table: ReportTable, row: int) -> CellText:
    """Return a row's label, marked if the row is transductive."""
    return CellText(table.spec.rows[row].label, TRANSDUCTIVE_MARK if table.transductive(row) else "")


def column_label(table: ReportTable, column: int) -> CellText:
    """Return a column's own label, marked if the column shows a subset of its data set, or a stand-in for it."""
    marks = SUBSET_MARK if table.column_is_subset(column) else ""
    if any(cell.spec.stands_in_for for cell in table.cells if cell.spec.column == column):
        marks += STAND_IN_MARK
    return CellText(table.spec.columns[column].label, marks)


def section_label(table: ReportTable, section: int) -> CellText:
    """Return a section's label, marked if the section shows subsets."""
    return CellText(table.spec.sections[section].label, SUBSET_MARK if table.section_is_subset(section) else "")


def column_groups(columns: Iterable[ColumnSpec]) -> list[tuple[str, int]]:
    """Return the headers that neighbouring columns share and how many columns each spans."""
    groups: list[tuple[str, int]] = []
    for name, members in groupby(columns, key=lambda column: column.group):
        size = sum(1 for _ in members)
        groups += [(name, size)] if name else [("", 1)] * size
    return groups


def heading(table: ReportTable) -> str:
    """Return the table's number and title as one line."""
    spec = table.spec
    return f"Table {spec.number}: {spec.title}" if spec.number is not None else spec.title


def precision_words(table: ReportTable) -> str:
    """Return what is to be said of the precision of products, nothing if it is the highest."""
    return f", products of precision {table.precision}" if table.precision != HIGHEST else ""


def caption(table: ReportTable) -> str:
    """Return the caption after the title: what is shown, how it was computed, and what ± and the marks are."""
    spec = table.spec
    seeds = ", ".join(str(seed) for seed in spec.seeds)
    redrawn = "split, mask and initialisation" if spec.repeat == "all" else "initialisation only"
    preset = f"preset {table.preset}" if table.preset is not None else "no stored rows yet"
    protocols = sorted({cell.spec.protocol for cell in table.cells})
    if len(protocols) > 1:
        protocol = f"protocol inductive, in rows marked {TRANSDUCTIVE_MARK} transductive"
    else:
        protocol = f"protocol {protocols[0]}"
    sentences = [
        spec.caption,
        f"Mean ± sample standard deviation over n = {len(spec.seeds)} seeds ({seeds}), each with its own {redrawn}."
        if len(spec.seeds) > 1
        else f"One seed ({seeds}): no standard deviation.",
        f"Here: {preset}, parameter set {table.parameter_set}{precision_words(table)}, {protocol}.",
        f"Δ: below {decimal_text(spec.format.delta)}." if spec.format.delta is not None and len(spec.seeds) > 1 else "",
        "Bold: best of all rows, the floor included." if any(cell.best for cell in table.cells) else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def notes(table: ReportTable, published: bool = False) -> list[str]:
    """Return the notes under a table: what its marks mean, why numbers are missing, and what its spec says of them.

    Every line explains all cells at once; which cells have which reason stands in the CSV in full. A table in the
    paper's layout has five lines at most.
    """
    spec = table.spec
    own = [*spec.notes, *(f"{row.label}: {row.note}" for row in spec.rows if row.note)]
    extended = [*spec.extended_notes, *entry_notes(table), *warning_notes(table)] if spec.extended_notes else []
    lines = [_comparison_line(table, published), _training_line(table), _label_line(table), _reason_line(table)]
    return [line for line in (*lines, " ".join(own), *extended) if line]


def _comparison_line(table: ReportTable, published: bool) -> str:
    """Return what the marks beside a number say of it and of the published one, as far as they occur."""
    marks = "".join(cell_text(table, cell, published).marks for cell in table.cells)
    said = [f"{MARKS[verdict]} {verdict}" for verdict in COMPARED if published and MARKS[verdict] in marks]
    parts = [f"Ours beside the paper's: {', '.join(said)}"] if said else []
    if published and any(cell.published_verdict == "no better than floor" for cell in table.cells):
        parts.append(f"{AT_FLOOR_MARK} published value no better than our floor")
    if NO_BETTER_MARK in marks:
        parts.append(f"{NO_BETTER_MARK} ours no better than the floor")
    if BUDGET_MARK in marks:
        presets = dict.fromkeys(name for cell in table.cells for name in cell.disagreeing)
        parts.append(f"{BUDGET_MARK} another number under {' and '.join(presets)}, by more than the spread")
    return "; ".join(parts) + "." if parts else ""


def _training_line(table: ReportTable) -> str:
    """Return what the marks of trainings say, as far as they occur."""
    said = [f"{mark} {meaning}" for name, (mark, meaning) in TRAINING_MARKS.items() if _occurs(table, name)]
    return f"In at least one seed: {'; '.join(said)}." if said else ""


def _occurs(table: ReportTable, name: str) -> bool:
    return any(getattr(cell, name) for cell in table.cells)


def _label_line(table: ReportTable) -> str:
    """Return what the marks of rows, columns and data sets say."""
    said = list(stand_in_notes(table))
    if any(cell.subset for cell in table.cells):
        said.append(f"{SUBSET_MARK} a subset of the data set, not comparable with the published numbers.")
    if any(table.transductive(row) for row in range(len(table.spec.rows))):
        said.append(f"{TRANSDUCTIVE_MARK} transductive: fitted on the very rows it imputes.")
    if any(row.reference or row.floor for row in table.spec.rows):
        only_floor = not any(row.reference for row in table.spec.rows)
        said.append("In italics: the floor." if only_floor else "In italics, not in the paper: references, the floor.")
    return " ".join(said)


def _reason_line(table: ReportTable) -> str:
    """Return what stands for a number that is not there, and the reasons by their letters, cut to a few words."""
    statuses: set[str] = {cell.status for cell in table.cells}
    meanings = {"missing": "not run", "unavailable": "method not available", "failed": "no result"}
    if statuses & {"skipped", "unscored"}:
        statuses.add("failed")
    said = [f"{DASHES[status]} {meaning}" for status, meaning in meanings.items() if status in statuses]
    said += [f"{mark} {_cut(reason)}" for mark, reason in table.footnotes[:MOST_REASONS]]
    if len(table.footnotes) > MOST_REASONS:
        said.append(f"{len(table.footnotes) - MOST_REASONS} more reasons in the CSV")
    if count := sum(cell.unverified for cell in table.cells):
        known = sum(cell.n for cell in table.cells)
        said.append(f"unverified: {count} of {known} values are of rows that an older version stored, without a digest")
    return "; ".join(said) + "." if said else ""


def _cut(text: str) -> str:
    """Return a reason in a few words."""
    return text if len(text) <= MOST_OF_A_REASON else f"{text[: MOST_OF_A_REASON - 1].rstrip()}…"


def warning_notes(table: ReportTable) -> list[str]:
    """Return what the rows warn of, once for each data set."""
    seen = dict.fromkeys((cell.spec.dataset, text) for cell in table.cells for text in cell.warnings)
    return [f"{dataset}: {text}." for dataset, text in seen]


def stand_in_notes(table: ReportTable) -> list[str]:
    """Return which synthetic data sets take the place of others."""
    pairs = dict.fromkeys((cell.spec.dataset, cell.spec.stands_in_for) for cell in table.cells)
    return [
        f"{STAND_IN_MARK} SYNTHETIC: {dataset} takes the place of {real}. It says nothing about that data set, and is"
        " never compared with the published numbers."
        for dataset, real in pairs
        if real
    ]


def entry_notes(table: ReportTable) -> list[str]:
    """Return how many entries were scored in the columns that ask for it, seed by seed; masks know no method."""
    said: list[str] = []
    for index, column in enumerate(table.spec.columns):
        for section, part in enumerate(table.spec.sections):
            counted: dict[int, int] = {}
            for cell in table.cells:
                if column.count_entries and (cell.spec.section, cell.spec.column) == (section, index):
                    pairs = zip(cell.seeds, cell.entries, strict=True)
                    counted |= {seed: count for seed, count in pairs if count is not None}
            if counted:
                listed = ", ".join(f"{counted[seed]} (seed {seed})" for seed in sorted(counted))
                said.append(f"Scored entries of {f'{part.label} {column.name}'.strip()}: {listed}.")
    return said
