"""Words of the command line that cannot be meant."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.harness import WORKERS, Fault
from tests.toys import DATA, MEDIAN, table_text

FILES = {
    "plugins/data.py": DATA,
    "plugins/median.py": MEDIAN,
    "toy.toml": table_text(("mean_mode",)),
    "empty/readme.txt": "nothing here",
    "a_file": "a file",
}
#: What makes a grid run, to be changed by what follows.
PLACE = ("--plugins", "plugins", "--store", "store")
GRID = ("run", "--methods", "mean_mode", "--datasets", "toy_numbers", "--preset", "smoke")
RUN = (*GRID, *PLACE, "--workers", WORKERS)
PLOT = ("plot", "ratios", "toy_numbers", "--plugins", "plugins", "--store", "store", "--output", "figures")
TUNE = ("tune", "vae", "toy_numbers", "--plugins", "plugins", "--store", "store", "--preset", "smoke")
TABLE = ("table", "toy.toml", "--plugins", "plugins", "--store", "store")

LONG = "x" * 5000
NUMBER = "9" * 400
ESCAPE = "\x1b[31mred\x07"
SURROGATE = "caf\udce9"
NAMES = {
    "unknown": "nobody",
    "comma": ",",
    "commas": ",,,",
    "blank": " ",
    "long": LONG,
    "escape": ESCAPE,
    "surrogate": SURROGATE,
    "path": "../../etc/passwd",
    "null-like": "None",
}
NUMBERS = {
    "word": "many",
    "nan": "nan",
    "infinity": "inf",
    "digits": NUMBER,
    "digits-5000": "9" * 5000,
    "negative": "-1",
    "comma": ",",
    "range": "0-3",
    "exponent": "1e999",
    "escape": ESCAPE,
    "surrogate": SURROGATE,
    "hex": "0x10",
}
DURATIONS = {
    "digits": NUMBER,
    "digits-hours": f"{NUMBER}h",
    "zero": "0",
    "word": "soon",
    "negative": "-5m",
    "nan": "nan",
    "blank": " ",
    "long": LONG,
    "order": "5s3h",
    "escape": ESCAPE,
}


def _with(name: str, words: tuple[str, ...], option: str, values: dict[str, str]) -> list[Fault]:
    return [Fault(f"{name}{option}-{label}", (*words, option, value), FILES) for label, value in values.items()]


def _dangling(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "nowhere" / "at" / "all")


def _loop(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "link")


def _closed_to_all(folder: Path) -> None:
    os.mkfifo(folder / "pipe.toml")


PLACES = {
    "proc": "/proc/nowhere",
    "file": "a_file",
    "below-file": "a_file/below",
    "device": "/dev/null",
    "below-device": "/dev/null/below",
    "long": f"store/{'y' * 300}",
    "very-long": "z/" * 3000,
}

FAULTS: tuple[Fault, ...] = (
    *_with("run", RUN, "--methods", NAMES),
    *_with("run", RUN, "--datasets", NAMES),
    *_with("run", RUN, "--mechanisms", NAMES),
    *_with("run", RUN, "--ratios", {k: v for k, v in NUMBERS.items() if k != "hex"}),
    *_with("run", RUN, "--seeds", NUMBERS),
    *_with("run", RUN, "--threads", NUMBERS),
    *_with("run", RUN, "--workers", {k: v for k, v in NUMBERS.items() if k not in ("digits",)}),
    *_with("run", RUN, "--time-budget", DURATIONS),
    *_with("run", RUN, "--preset", {"unknown": "quik", "escape": ESCAPE, "surrogate": SURROGATE, "long": LONG}),
    *_with("run", RUN, "--parameters", {"unknown": "defalt", "escape": ESCAPE}),
    *_with("run", RUN, "--precision", {"unknown": "hihg", "surrogate": SURROGATE}),
    *_with("run", RUN, "--device", {"unknown": "tpu", "escape": ESCAPE, "cuda-word": "cuda:zero"}),
    *_with("run", RUN, "--plugins", {"nowhere": "nowhere", "file": "a_file", "empty": "empty", "long": LONG}),
    *_with("run", RUN, "--store", PLACES),
    *_with("table", TABLE, "--output", PLACES),
    *_with("table", TABLE, "--preset", {"unknown": "quik", "escape": ESCAPE}),
    *_with("table", TABLE, "--plugins", {"nowhere": "nowhere", "file": "a_file"}),
    *_with("tune", TUNE, "--seeds", {k: NUMBERS[k] for k in ("word", "comma", "negative", "digits")}),
    *_with("tune", TUNE, "--time-budget", {k: DURATIONS[k] for k in ("digits", "word")}),
    *_with("plot", PLOT, "--metric", {k: NAMES[k] for k in ("unknown", "comma", "escape")}),
    *_with("plot", PLOT, "--formats", {k: NAMES[k] for k in ("unknown", "comma", "surrogate")}),
    *_with("plot", PLOT, "--methods", {k: NAMES[k] for k in ("unknown", "comma")}),
    *_with("plot", PLOT, "--output", {"file": "a_file"}),
    Fault("dangling-store", (*RUN, "--store", "link"), FILES, prepare=_dangling, codes=(0, 2)),
    Fault("looping-store", (*RUN, "--store", "link"), FILES, prepare=_loop),
    Fault("looping-output", (*TABLE, "--output", "link"), FILES, prepare=_loop),
    Fault("pipe-as-table", ("table", "pipe.toml", "--store", "store"), FILES, prepare=_closed_to_all),
    Fault("nothing", ("run",), FILES),
    Fault("no-data-sets", ("run", "--methods", "mean_mode"), FILES),
    Fault("table-and-ratios", ("run", "toy.toml", "--plugins", "plugins", "--ratios", "0.5"), FILES),
    Fault("unknown-verb", ("rnu",), FILES),
    Fault("unknown-option", ("run", "--metods", "vae"), FILES),
    Fault("option-without-value", ("run", "--methods"), FILES),
    Fault("escape-as-verb", (ESCAPE,), FILES),
    Fault("surrogate-as-table", ("table", SURROGATE), FILES),
    Fault("long-table", ("table", LONG), FILES),
    Fault("table-0", ("table", "0"), FILES),
    Fault("table-digits", ("table", NUMBER), FILES),
    Fault("table-digits-5000", ("table", "9" * 5000), FILES),
    Fault("table-no-file", ("table", "nowhere.toml"), FILES),
    Fault("table-folder", ("table", "empty"), FILES),
    Fault("check-unknown", ("check", "nobody", "--plugins", "plugins"), FILES),
    Fault("check-nothing", ("check",), FILES),
    Fault("check-escape", ("check", ESCAPE), FILES),
    Fault("data-unknown", ("data", "nobody"), FILES),
    Fault("data-surrogate", ("data", SURROGATE), FILES),
    Fault("tune-unknown", ("tune", "nobody", "toy_numbers", "--plugins", "plugins"), FILES),
    Fault("tune-comma", ("tune", ",", "toy_numbers", "--plugins", "plugins"), FILES),
    Fault("tune-empty", ("tune", "", "toy_numbers", "--plugins", "plugins"), FILES),
    Fault("tune-nothing-to-tune", ("tune", "mean_mode", "toy_numbers", "--plugins", "plugins"), FILES),
    Fault("tune-store", (*TUNE, "--store", "/proc/nowhere"), FILES),
    Fault("plot-no-rows", PLOT, FILES),
    Fault("plot-unknown", ("plot", "ratios", "nobody", "--store", "store"), FILES),
    Fault("plot-seed-digits", ("plot", "samples", "toy_numbers", "--plugins", "plugins", "--seed", NUMBER), FILES),
    Fault("plot-ratio-nan", ("plot", "samples", "toy_numbers", "--plugins", "plugins", "--ratio", "nan"), FILES),
)
