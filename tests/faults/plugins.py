"""Plug-ins that break their contract: they are listed with their error, or their rows fail with the reason."""

from __future__ import annotations

from tests.faults.harness import WORKERS, Fault
from tests.toys import DATA, ZEROS, method_source

GRID = ("--datasets", "toy_numbers", "--ratios", "0.3", "--seeds", "0", "--preset", "smoke")
PLACE = ("--plugins", "plugins", "--store", "store", "--workers", WORKERS)
RUN = ("run", "--methods", "mine", *GRID, *PLACE)
HOLES = ("run", "--methods", "mean_mode", "--mechanisms", "holes", *GRID, *PLACE)
LIST = ("list", "--load", "--plugins", "plugins")

#: Statements of ``fit`` that end in a failed row.
FITS = {
    "raises": "raise ValueError('no')",
    "raises-without-text": "raise RuntimeError",
    "raises-lines": "raise ValueError('a\\nb')",
    "raises-escapes": "raise ValueError('\\x1b[31m\\x07')",
    "raises-long": "raise ValueError('x' * 10**5)",
    "raises-object": "raise KeyError(object())",
    "exits": "sys.exit(0)",
    "exits-1": "sys.exit('bye')",
    "memory": "raise MemoryError",
    "recursion": "self.fit(train, validation, seed)",
    "assertion": "assert False",
    "import": "import no_such_package",
    "division": "1 / 0",
    "os-error": "open('/nowhere/at/all')",
    "unicode": "b'\\xff'.decode()",
    "stop-iteration": "next(iter(()))",
    "not-implemented": "raise NotImplementedError",
}
#: Statements of ``impute`` that end in a failed row.
IMPUTES = {
    "none": "return None",
    "text": "return 'done'",
    "array": "return data.values().scalars",
    "list": "return [1]",
    "series": "return data.frame()['first']",
    "class": "return Values",
    "nan": "return data.frame()",
    "short": "return data.frame().iloc[1:].fillna(0.0)",
    "long": "import pandas as pd; return pd.concat([data.frame().fillna(0.0)] * 2)",
    "narrow": "return data.frame()[['first']].fillna(0.0)",
    "empty": "import pandas as pd; return pd.DataFrame()",
    "renamed": "return data.frame().fillna(0.0).rename(columns={'first': 'f'})",
    "twice": "import pandas as pd; f = data.frame().fillna(0.0); return pd.concat([f, f], axis=1)",
    "text-in-numbers": "return data.frame().fillna(0.0).assign(first='x')",
    "complex": "return data.frame().fillna(0.0).assign(first=1j)",
    "infinite": "return data.frame().fillna(np.inf)",
    "other-index": "f = data.frame().fillna(0.0); f.index = f.index + 1; return f",
    "text-index": "f = data.frame().fillna(0.0); f.index = [f'r{i}' for i in f.index]; return f",
    "repeated-index": "f = data.frame().fillna(0.0); f.index = [0] * len(f); return f",
    "two-headers": "import pandas as pd; return pd.concat({'a': data.frame().fillna(0.0)}, axis=1)",
    "values-narrow": "return Values(np.zeros((len(data), 1)))",
    "values-flat": "return Values(np.zeros(len(data)))",
    "values-nan": "return Values(np.full((len(data), 2), np.nan))",
    "values-list": "return Values([[0.0, 0.0]] * len(data))",
    "values-text": "return Values(np.full((len(data), 2), 'x'))",
}
#: Lines of a class body, or whole files, that listing tells of.
BODIES = {
    "version-text": "version = 'one'",
    "version-zero": "version = 0",
    "version-called": "version = len('a')",
    "kinds-unknown": "kinds = ('sound',)",
    "kinds-text": "kinds = 'numeric'",
    "kinds-empty": "kinds = ()",
    "protocols": "protocols = ('deductive',)",
    "requires": "requires = (1,)",
    "requires-escape": "requires = ('\\x1b[31m',)",
    "width": "max_width = 0",
    "width-text": "max_width = 'wide'",
    "attributes": "max_attributes = -1",
    "parameters": "parameter_sets = {}",
    "parameters-nan": "parameter_sets = {'default': {'a': float('nan')}}",
    "parameters-infinite": "parameter_sets = {'default': {'a': 1e999}}",
    "parameters-object": "parameter_sets = {'default': {'a': object}}",
    "tunable": "tunable = {'a': ('log', 2, 1)}",
    "deep": f"parameter_sets = {{'default': {{'a': {'[' * 80}{']' * 80}}}}}",
}
#: Names that no file or folder of the store can have.
NAMES = {
    "dots": "..",
    "dot": ".",
    "slash": "a/b",
    "blank": "a b",
    "empty": "",
    "escape": "a\\x1b[31m",
    "formula": "=cmd",
    "sign": "-x",
    "long": "x" * 300,
    "wide": "\\u4e2d" * 50,
    "comma": "a,b",
    "surrogate": "\\udc80",
}
HEAD = "from bench.api import Method\n\n\nclass Mine(Method):\n    name = 'mine'\n\n\n"
FILES = {
    "syntax": "class Mine(:\n",
    "null": "x = '\0'\n",
    "not-utf8": "x = '\udce9'\n",
    "tabs": "if 1:\n\tx = 1\n        y = 2\n",
    "import": "import no_such_package\nfrom bench.api import Method\n\n\nclass Mine(Method):\n    name = 'mine'\n",
    "raises": f"{HEAD}raise ValueError('\\x1b[31m')\n",
    "exits": f"{HEAD}raise SystemExit(0)\n",
    "text-raises": f"{HEAD}class E(Exception):\n    def __str__(self):\n        raise ValueError\n\n\nraise E\n",
    "deep": "x = " + "(" * 500 + ")" * 500 + "\n",
    "not-derived": "class Method:\n    pass\n\n\nclass Mine(Method):\n    name = 'mine'\n",
}
MECHANISMS = {
    "raises": "raise ValueError('no')",
    "none": "return None",
    "text": "return 'half'",
    "flat": "return np.full(len(values.scalars), ratio)",
    "wide": "return np.full((len(values.scalars), 9), ratio)",
    "nan": "return np.full((len(values.scalars), len(schema)), np.nan)",
    "negative": "return np.full((len(values.scalars), len(schema)), -ratio)",
    "two": "return np.full((len(values.scalars), len(schema)), 2.0)",
    "list": "return [[ratio] * len(schema)] * len(values.scalars)",
    "complex": "return np.full((len(values.scalars), len(schema)), ratio + 1j)",
}
MECHANISMS_WARNED = {
    "nothing": "return np.zeros((len(values.scalars), len(schema)))",
    "everything": "return np.ones((len(values.scalars), len(schema)))",
    "half": "return np.full((len(values.scalars), len(schema)), 0.9)",
}


def _with(source: str) -> dict[str, str | bytes]:
    return {"plugins/data.py": DATA, "plugins/mine.py": source}


def _mechanism(body: str) -> dict[str, str | bytes]:
    source = "import numpy as np\nfrom bench.api import Mechanism\n\n\nclass Holes(Mechanism):\n    name = 'holes'\n\n"
    source += f"    def missing_probability(self, values, schema, ratio, rng, **parameters):\n        {body}\n"
    return _with(source)


FAULTS: tuple[Fault, ...] = (
    *(
        Fault(f"fit-{n}", RUN, _with(method_source("mine", fit, ZEROS)), (1,), rows=("failed",))
        for n, fit in FITS.items()
    ),
    *(
        Fault(f"impute-{n}", RUN, _with(method_source("mine", "pass", body)), (1,), rows=("failed",))
        for n, body in IMPUTES.items()
    ),
    *(
        Fault(f"body-{n}", LIST, _with(method_source("mine", "pass", ZEROS, line)), (0, 1), says="mine")
        for n, line in BODIES.items()
    ),
    *(
        Fault(f"name-{n}", LIST, _with(method_source(name, "pass", ZEROS)), (1,), says="ERROR .*name of Mine must be")
        for n, name in NAMES.items()
    ),
    *(
        Fault(f"file-{n}", LIST, {"plugins/mine.py": text}, (0, 1, 2), says="mine|no plug-in")
        for n, text in FILES.items()
    ),
    *(Fault(f"mechanism-{n}", HOLES, _mechanism(body), (1,), rows=("failed",)) for n, body in MECHANISMS.items()),
    *(
        Fault(f"mechanism-{n}", HOLES, _mechanism(body), (0,), rows=("ok",), warned=True)
        for n, body in MECHANISMS_WARNED.items()
    ),
)
