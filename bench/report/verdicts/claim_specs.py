"""What the paper concludes from its tables, as data: one TOML file per table beside the table specs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BenchError
from bench.experiment.toml_lines import TomlText
from bench.paths import claims_folder

#: ``below``: the row's error is below that of each other row, in each column. ``gap_grows``: the distance to each other
#: row is larger in the columns ``to`` than in ``from``; so the row's error rises less on the way.
ClaimKind = Literal["below", "gap_grows"]


class Claim(BaseModel):
    """A claim: its sentence, what kind of comparison decides it, and the rows and columns that it is about.

    ``row`` and ``against`` are labels of the table's rows; without ``against`` it is every row that the paper has.
    ``start`` and ``end`` (``from`` and ``to`` in TOML) name columns by their group or label. The columns are those with
    published numbers.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    text: str
    kind: ClaimKind
    row: str
    against: Annotated[tuple[str, ...], Field(strict=False)] = ()
    start: Annotated[str, Field(alias="from")] = ""
    end: Annotated[str, Field(alias="to")] = ""


class ClaimSpec(BaseModel):
    """The claims about one table of the paper, by its number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    table: int
    claims: Annotated[tuple[Claim, ...], Field(strict=False, min_length=1)]


def claim_files() -> tuple[Path, ...]:
    """Return the suite's own files of claims, in the order of their tables."""
    return tuple(sorted(claims_folder().glob("table*.toml")))


def read_claims(path: Path) -> ClaimSpec:
    """Read and check a file of claims; raises BenchError with file and line."""
    try:
        text = TomlText.of_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        spec = ClaimSpec.model_validate(text.value)
    except ValidationError as error:
        first: Any = error.errors()[0]
        keys = ".".join(map(str, first["loc"]))
        raise BenchError(f"{path}:{text.line(first['loc'])}: {keys}: {first['msg']}") from None
    for index, claim in enumerate(spec.claims):
        if (claim.kind != "below") != bool(claim.start and claim.end):
            needs = "needs 'from' and 'to'" if claim.kind != "below" else "takes no 'from' and 'to'"
            raise BenchError(f"{path}:{text.line(('claims', index))}: a claim of the kind '{claim.kind}' {needs}")
    return spec
