"""The types that the fields of a stored row have to have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

_Test = Callable[[Any], bool]
#: The largest whole number a float can hold is some larger.
_LARGEST: Final = 1.7e308


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_text_or_none(value: Any) -> bool:
    return value is None or type(value) is str


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return (type(value) is float or type(value) is int) and -_LARGEST < value < _LARGEST


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_switch(value: Any) -> bool:
    return type(value) is bool


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_mapping_or_none(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is str for item in value)


def _are_named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(item) is str for item in value.values())


def _are_numbers(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    for number in value.values():  # written out: rows have a hundred of them
        if type(number) is float:
            if not -_LARGEST < number < _LARGEST:
                return False
        elif not _is_number_or_none(number):
            return False
    return True


def _are_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_are_numbers, value.values()))


def _are_diagnostics(value: Any) -> bool:
    return isinstance(value, dict) and _is_number_or_none(value.get("best_validation_error"))


def _are_draws(value: Any) -> bool:
    scores = isinstance(value, dict) and _are_numbers(value.get("all", {})) and _are_scores(value.get("attributes", {}))
    return scores and _is_number_or_none(value.get("draws"))


_REQUIRED: Final[dict[str, _Test]] = {"key": _is_text, "status": lambda value: value in ("ok", "failed", "skipped")}
_OPTIONAL: Final[dict[str, _Test]] = {
    "reason": _is_text_or_none,
    "variant": _is_text,
    "source": _is_text,
    "missing_ratio": _is_number_or_none,
    "mask_hash": _is_text_or_none,
    "metrics": _are_scores,
    "attributes": _are_scores,
    "counts": _are_numbers,
    "seconds": _is_number,
    "peak_memory_mib": _is_number_or_none,
    "diagnostics": _are_diagnostics,
    "warnings": _are_texts,
    "environment": _is_mapping,
    "stack": _are_texts,
    "plugin_sources": _are_named_texts,
    "ratios": _are_numbers,
    "processor_seconds": _is_number_or_none,
    "draws": _are_draws,
    "traceback": _is_text_or_none,
    "cause": _is_text_or_none,
    "attempts": _is_whole,
}
_OF_CELL: Final[dict[str, _Test]] = {
    "dataset": _is_text,
    "content": _is_text,
    "include_target": _is_switch,
    "mechanism": _is_text,
    "mechanism_version": _is_whole,
    "mechanism_parameters": _is_mapping,
    "ratio": _is_number,
    "method": _is_text,
    "method_version": _is_whole,
    "parameter_set": _is_text,
    "parameters": _is_mapping,
    "seed": _is_whole,
    "repeat": _is_text,
    "protocol": _is_text,
    "preset": _is_text,
    "budget": _is_mapping,
    "engine": _is_whole,
}
_OPTIONAL_OF_CELL: Final[dict[str, _Test]] = {
    "mechanism_overrides": _is_mapping_or_none,
    "overrides": _is_mapping,
    "precision": _is_text,
}


def require_types(row: Mapping[str, Any]) -> None:
    """Raise TypeError, with the name of the field, if one is missing or is not what it has to be."""
    cell = row["cell"]
    if not isinstance(cell, dict):
        raise TypeError("its 'cell' is not an object")
    for part, required, optional in ((row, _REQUIRED, _OPTIONAL), (cell, _OF_CELL, _OPTIONAL_OF_CELL)):
        if part is cell and _is_usual(cell):
            continue
        for name, fits in required.items():
            if name not in part:
                raise TypeError(f"it has no '{name}'")
            if not fits(part[name]):
                raise TypeError(f"its '{name}' is not what it has to be")
        for name in optional.keys() & part.keys():
            if not optional[name](part[name]):
                raise TypeError(f"its '{name}' is not what it has to be")


def _is_usual(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell has all fields with the types that ``as_json`` writes: most have, and this is fast."""
    return cell.keys() == _USUAL.keys() and tuple(map(type, _usual_values(cell))) == _USUAL_TYPES


_USUAL: Final[dict[str, type]] = {
    "dataset": str,
    "content": str,
    "include_target": bool,
    "mechanism": str,
    "mechanism_version": int,
    "mechanism_parameters": dict,
    "mechanism_overrides": dict,
    "ratio": float,
    "method": str,
    "method_version": int,
    "parameter_set": str,
    "overrides": dict,
    "parameters": dict,
    "seed": int,
    "repeat": str,
    "protocol": str,
    "preset": str,
    "budget": dict,
    "engine": int,
}
_USUAL_TYPES: Final = tuple(_USUAL.values())
_usual_values = itemgetter(*_USUAL)
