"""Table specs that say nothing that can be run."""

from __future__ import annotations

from tests.faults.arguments import FILES
from tests.faults.harness import WORKERS, Fault
from tests.toys import table_text

GOOD = table_text(("mean_mode",), ("toy_numbers",))
TOP, REST = GOOD.split("[defaults]")
REST = f"[defaults]{REST}"
DEEP = "[" * 300 + "]" * 300
TABLE = ("table", "bad.toml", "--plugins", "plugins", "--store", "store")
RUN = ("run", "bad.toml", "--plugins", "plugins", "--store", "store", "--preset", "smoke", "--workers", WORKERS)


def _fault(name: str, text: str | bytes, words: tuple[str, ...] = TABLE, shared: str | bytes = "") -> Fault:
    return Fault(name, words, {**FILES, "bad.toml": text, **({"rows.toml": shared} if shared else {})})


#: Values that no key takes, as TOML.
WRONG = {
    "table": "{ a = 1 }",
    "nested": "[[[1]]]",
    "date": "2020-01-01",
    "nan": "nan",
    "infinity": "inf",
    "huge": "9" * 400,
}
#: Keys and values of the wrong type for each.
KEYS = {
    "id": ("title", "[]", '""', '"Ab c"', '"../x"', r'"\u001b"'),
    "title": ("id", "[]", "1"),
    "label": ("id", "[]", '"a b"', r'"a\nb"'),
    "number": ("id", '"six"', "1.5"),
    "seeds": ("id", "[]", '["a"]', "[-1]", "[0, 0]", "[1.5]", f"[{'9' * 400}]", "true"),
    "repeat": ("id", '"some"', "1"),
    "notes": ("id", "[1]", "1"),
    "stand_ins": ("id", "1", "{ a = 1 }"),
}


def _top_keys() -> list[Fault]:
    faults = []
    for key, (_, *values) in KEYS.items():
        rest = "\n".join(line for line in TOP.splitlines() if not line.startswith(f"{key} ="))
        for index, value in enumerate((*values, *WRONG.values())):
            if key == "stand_ins" and value == WRONG["table"]:
                continue
            faults.append(_fault(f"{key}-{index}", f"{key} = {value}\n{rest}\n{REST}"))
    return faults


#: Keys of the defaults, with values that are wrong for each.
CELL = {
    "ratio": ("0.0", "1.0", "-0.5", '"half"', "true"),
    "dataset": ("1", "[]"),
    "mechanism": ("1", "[]"),
    "method": ("false", "[]"),
    "metric": ('"rmse"', "1"),
    "protocol": ('"deductive"', "1"),
    "attribute": ("1",),
    "include_target": ('"yes"', "1"),
    "parameters": ("1", "[]", "{ a = inf }", "{ a = nan }", "{ a = 2020-01-01 }"),
    "mechanism_parameters": ("1", "{ a = nan }", f"{{ a = {DEEP} }}"),
}


def _cell_keys() -> list[Fault]:
    faults = []
    for key, values in CELL.items():
        rest = "\n".join(line for line in REST.splitlines()[1:] if not line.startswith(f"{key} ="))
        wrong = [value for name, value in WRONG.items() if not (name == "table" and key.endswith("parameters"))]
        for index, value in enumerate((*values, *wrong)):
            faults.append(_fault(f"defaults-{key}-{index}", f"{TOP}\n[defaults]\n{key} = {value}\n{rest}", RUN))
    return faults


EACH = "[[columns]]\nlabel = 'x'\neach = [" + ", ".join(["[" + "{ digits = 1 }, " * 60 + "]"] * 8) + "]\n"

FAULTS: tuple[Fault, ...] = (
    *_top_keys(),
    *_cell_keys(),
    _fault("empty", ""),
    _fault("no-table", "a = 1"),
    _fault("not-utf8", b"id = 'caf\xe9'"),
    _fault("null-byte", b"id = '\x00'"),
    _fault("binary", bytes(range(256)) * 10),
    _fault("bom", b"\xff\xfei\x00d\x00"),
    _fault("unclosed", f"{TOP}title = 'x"),
    _fault("key-twice", f"id = 'a'\n{GOOD}"),
    _fault("header-twice", f"{GOOD}[defaults]\n"),
    _fault("unknown-key", f"colour = 1\n{GOOD}"),
    _fault("escape-as-key", f'"\\u001b[31m" = 1\n{GOOD}'),
    _fault("surrogate-as-value", f'x = "\\ud800"\n{GOOD}'),
    _fault("deep-list", f"x = {DEEP}\n{GOOD}"),
    _fault("deeper-list", f"x = {'[' * 100_000}"),
    _fault("deep-table", f"x = {'{ a = ' * 200}1{' }' * 200}\n{GOOD}"),
    _fault("deep-header", f"[{'.'.join('a' * 500)}]\nb = 1\n"),
    _fault("digits", f"number = {'9' * 5000}\n{GOOD}"),
    _fault("float-digits", f"number = 0.{'9' * 5000}\n{GOOD}"),
    _fault("large", f"{GOOD}\n# {'x' * 2**21}"),
    _fault("many-lines", f"notes = [{'1,' + chr(10)}" + "1,\n" * 100_000 + f"]\n{GOOD}"),
    _fault("many-columns", f"{GOOD}{EACH}"),
    _fault("many-cells", GOOD + "[[rows]]\nlabel='m'\nmethod='mean_mode'\n" * 2000 + EACH.replace("60", "2")),
    _fault("each-number", f"{GOOD}[[columns]]\nlabel = 'x'\neach = 3\n"),
    _fault("each-empty", f"{GOOD}[[columns]]\nlabel = 'x'\neach = [[]]\n"),
    _fault("rows-number", f"rows = 3\n{TOP}{REST.partition('[[rows]]')[0]}"),
    _fault("rows-empty", f"rows = []\n{TOP}{REST.partition('[[rows]]')[0]}"),
    _fault("rows-unknown", f"rows = ['nobody']\n{TOP}{REST.partition('[[rows]]')[0]}"),
    _fault("rows-of-escape", f'rows = ["\\u001b[31m"]\n{TOP}{REST.partition("[[rows]]")[0]}'),
    _fault("own-rows-broken", f"rows = ['a']\n{TOP}{REST.partition('[[rows]]')[0]}", shared="[rows"),
    _fault("own-rows-binary", f"rows = ['a']\n{TOP}{REST.partition('[[rows]]')[0]}", shared=b"\xff\x00"),
    _fault("own-rows-list", f"rows = ['a']\n{TOP}{REST.partition('[[rows]]')[0]}", shared="rows = [1]"),
    _fault("own-rows-loop", f"rows = ['a']\n{TOP}{REST.partition('[[rows]]')[0]}", shared="groups.a = ['a']"),
    _fault("two-floors", GOOD + "[[rows]]\nlabel='a'\nmethod='knn'\nfloor=true\n" * 2),
    _fault("no-columns", GOOD.partition("[[columns]]")[0]),
    _fault("unknown-preset", f"{GOOD}[[rows]]\nlabel='a'\nmethod='knn'\npresets=['quik']\n"),
    _fault("empty-presets", f"{GOOD}[[rows]]\nlabel='a'\nmethod='knn'\npresets=[]\n"),
    _fault("digits-of-format", f"{GOOD}[format]\ndigits = 99\n"),
    _fault("delta-nan", f"{GOOD}[format]\ndelta = nan\n"),
    _fault("old-and-new-key", f"{GOOD}[format]\nstub = 'a'\nrow_heading = 'b'\n"),
    Fault(
        "unknown-data-set", RUN, {**FILES, "bad.toml": GOOD.replace("toy_numbers", "nobody")}, (0,), says="left out of"
    ),
    _fault("unknown-mechanism", GOOD.replace("mcar", "mcra"), RUN),
    _fault("unknown-parameter", GOOD.replace("[defaults]", "[defaults]\nparameters = { depth = 1 }"), RUN),
    _fault("wrong-protocol", GOOD.replace("[defaults]", '[defaults]\nprotocol = "transductive"'), RUN),
)
