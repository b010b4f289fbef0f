"""The words and numbers of a rendered table, in plain Unicode text; each renderer escapes them for its own language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.experiment.presets import HIGHEST
from bench.experiment.specs import ColumnSpec
from bench.report.cell import ReportCell
from bench.report.prose import Judged, judged
from bench.report.published import PublishedValue
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


def cell_text(table: ReportTable, cell: ReportCell) -> CellText:
    """Return what a cell prints: mean ± standard deviation, or the dash of its status, and its marks."""
    covered = table.column_is_subset(cell.spec.column) or table.section_is_subset(cell.spec.section)
    marks = "".join([SUBSET_MARK if cell.subset and not covered else "", cell.mark])
    if cell.mean is None:
        return CellText(DASHES[cell.status], marks)
    text = number_text(cell.mean, cell.digits)
    if cell.sd is not None:
        delta = table.spec.format.delta
        small = delta is not None and cell.sd < delta
        text += " ± " + ("Δ" if small else number_text(cell.sd, cell.digits))
    return CellText(text, marks, cell.best)


def published_text(value: PublishedValue, delta: float | None) -> str:
    """Return a published cell as printed there; its Δ as a bound if it stands for another one than ours."""
    if value.sd_text:
        return f"{value.mean_text} ± {value.sd_text}"
    if value.sd_below is None:
        return value.mean_text
    return f"{value.mean_text} ± " + ("Δ" if value.sd_below == delta else f"<{decimal_text(value.sd_below)}")


def published_line(table: ReportTable, cells: Iterable[ReportCell]) -> list[str]:
    """Return the published numbers of some cells, an empty text if there is none."""
    delta = table.spec.format.delta
    return [published_text(cell.published, delta) if cell.published else "" for cell in cells]


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


def notes(table: ReportTable) -> list[CellText]:
    """Return the notes under a table as (text, mark): marks that occur, reasons, the spec's notes and the verdicts."""
    spec = table.spec
    statuses: set[str] = {cell.status for cell in table.cells}
    found: list[CellText] = []
    if any(cell.subset for cell in table.cells):
        text = "only a subset of this data set could be had: not comparable with the published numbers."
        found.append(CellText(text, SUBSET_MARK))
    if any(table.transductive(row) for row in range(len(spec.rows))):
        found.append(CellText("transductive: fitted on the very rows it imputes.", TRANSDUCTIVE_MARK))
    found += [CellText(text, STAND_IN_MARK) for text in stand_in_notes(table)]
    found += [CellText(f"{reason}.", mark) for mark, reason in table.footnotes]
    meanings = {"missing": "not run", "unavailable": "method not available", "failed": "no result, see its letter"}
    if statuses & {"skipped", "unscored"}:
        statuses.add("failed")
    dashes = [f"{DASHES[status]}: {meaning}" for status, meaning in meanings.items() if status in statuses]
    if dashes:
        found.append(CellText("; ".join(dashes) + "."))
    if any(row.reference or row.floor for row in spec.rows):
        found.append(CellText("Rows in italics are not in the paper: references, and the floor."))
    found += [CellText(text) for text in spec.notes]
    found += [CellText(f"{row.label}: {row.note}") for row in spec.rows if row.note]
    found += [CellText(text) for text in entry_notes(table)]
    found += [CellText(text) for text in verdict_notes(table)]
    found += [CellText(text) for text in training_notes(table)]
    found += [CellText(text) for text in warning_notes(table)]
    found += [CellText(text) for text in unverified_notes(table)]
    return found


def unverified_notes(table: ReportTable) -> list[str]:
    """Return how many values are of rows without a digest, if there are any."""
    count, known = sum(cell.unverified for cell in table.cells), sum(cell.n for cell in table.cells)
    told = f"Unverified: {count} of {known} values are of rows that an older version stored, without a digest."
    return [told] if count else []


def warning_notes(table: ReportTable) -> list[str]:
    """Return what the rows warn of, once for each data set."""
    seen = dict.fromkeys((cell.spec.dataset, text) for cell in table.cells for text in cell.warnings)
    return [f"{dataset}: {text}." for dataset, text in seen]


def stand_in_notes(table: ReportTable) -> list[str]:
    """Return which synthetic data sets take the place of others."""
    pairs = dict.fromkeys((cell.spec.dataset, cell.spec.stands_in_for) for cell in table.cells)
    return [
        f"SYNTHETIC: {dataset} takes the place of {real}. It says nothing about that data set, and is never compared"
        " with the published numbers."
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


def training_notes(table: ReportTable) -> list[str]:
    """Return which trainings ended at the floor, chose by another rule, or were still improving at their end."""
    told = (
        ("Within 1 % of the floor, or worse, on held-out validation entries, so collapsed to it", "collapsed"),
        ("Left at the last epoch, as held-out entries say little of what is not missing at random", "kept_last"),
        ("Best in the last tenth of the training, so more of it would probably help", "undertrained"),
    )
    return [f"{opening}: {listed}." for opening, name in told if (listed := _listed_trainings(table, name))]


def _listed_trainings(table: ReportTable, name: str) -> str:
    """Return the rows, data sets and numbers of seeds that a field of the cells names."""
    seen: dict[str, set[int]] = {}
    for cell in table.cells:
        if seeds := getattr(cell, name):
            where = f"{table.spec.rows[cell.spec.row].label} on {cell.spec.dataset} ({cell.spec.mechanism})"
            seen.setdefault(where, set()).update(seeds)
    return "; ".join(f"{where}: seeds {', '.join(map(str, sorted(seeds)))}" for where, seeds in seen.items())


def verdict_notes(table: ReportTable) -> list[str]:
    """Return which published values, and which of ours, are no better than the floor."""
    if table.spec.floor_row is None:
        return []
    floor = table.spec.rows[table.spec.floor_row].label
    theirs, ours = (
        f"Published values no better than our floor ({floor})",
        f"Our values no better than the floor ({floor})",
    )
    return [
        *_verdict_note(table, theirs, judged(table.cells, published=True)),
        *_verdict_note(table, ours, judged(table.cells)),
    ]


def _verdict_note(table: ReportTable, opening: str, found: Judged) -> Iterator[str]:
    """Yield one sentence that lists, row by row, the cells that are no better; nothing if none was judged."""
    if not found.cells:
        return
    counted = f"{opening}: {found}"
    by_row = {
        row: _where(
            table,
            [cell for cell in found.no_better if cell.spec.row == row],
            [cell for cell in found.cells if cell.spec.row == row],
        )
        for row in range(len(table.spec.rows))
    }
    named = "; ".join(f"{table.spec.rows[row].label} on {', '.join(where)}" for row, where in by_row.items() if where)
    yield f"{counted} ({named})." if named else f"{counted}."


def _where(table: ReportTable, cells: Sequence[ReportCell], compared: Sequence[ReportCell]) -> list[str]:
    """Return short names for cells of a row: all that were compared, whole sections or groups, or single columns."""
    if len(cells) == len(compared) > 1:
        return ["every compared column"]
    spec = table.spec
    names: list[str] = []
    for section, label in enumerate(part.label for part in spec.sections):
        worse = [cell for cell in cells if cell.spec.section == section]
        within = [cell for cell in compared if cell.spec.section == section]
        if label and worse and len(worse) == len(within):
            names.append(label)
            continue
        for group, members in groupby(worse, key=lambda cell: spec.columns[cell.spec.column].group):
            own = list(members)
            whole = group and len(own) == sum(spec.columns[cell.spec.column].group == group for cell in within)
            columns = [group] if whole else [spec.columns[cell.spec.column].name for cell in own]
            names += [f"{label} {column}".strip() for column in columns]
    return names
