"""Imputes tables with HyperImpute or miceforest, in an environment of their own; ``benchmarks.peers`` starts it.

It imports nothing of this suite. Each line on standard input is a JSON object: ``method``, ``values`` (an .npy file of
numbers, NaN where hidden), ``imputed`` (where to write), ``steps``, ``batch``, ``seed``, and ``widths`` or null. Each
answer is an object too: ``seconds`` and ``version``, or ``error``.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np


def imputer(method: str, rows: int, steps: int, batch: int, seed: int, widths: list[int] | None) -> Any:
    """Return a HyperImpute plug-in set to take so many optimiser steps, all else as it comes.

    ``widths`` are those of MIWAE's latent space and hidden layers.
    """
    if method == "gain":
        from hyperimpute.plugins.imputers.plugin_gain import GainImputation, plugin

        made = plugin(random_state=seed)
        # The plug-in of 0.1.17 does not pass its settings on to this.
        made._model = GainImputation(batch_size=batch, n_epochs=steps)
        return made
    from hyperimpute.plugins.imputers.plugin_miwae import plugin

    batches = max(1, rows // batch)
    # Its epochs are counted from 1 and end before the number given.
    epochs, sizes = 1 + max(1, steps // batches), dict(zip(("latent_size", "n_hidden"), widths or (), strict=False))
    return plugin(random_state=seed, batch_size=batch, n_epochs=epochs, **sizes)


def impute(method: str, values: Any, steps: int, batch: int, seed: int, widths: list[int] | None) -> Any:
    """Return the imputed values."""
    import pandas as pd

    frame = pd.DataFrame(values, columns=[f"column{index}" for index in range(values.shape[1])])
    if method == "miceforest":
        import miceforest

        kernel = miceforest.ImputationKernel(frame, num_datasets=1, random_state=seed)
        kernel.mice(5)
        return kernel.complete_data(0).to_numpy()
    return np.asarray(imputer(method, len(values), steps, batch, seed, widths).fit_transform(frame))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what one line asks for."""
    method = request["method"]
    package = "miceforest" if method == "miceforest" else "hyperimpute"
    try:
        values = np.load(request["values"])
        version = metadata.version(package)
        began = time.perf_counter()
        imputed = impute(method, values, request["steps"], request["batch"], request["seed"], request["widths"])
        seconds = time.perf_counter() - began
        np.save(request["imputed"], imputed)
    except Exception as error:  # whatever their code raises is the answer
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"seconds": seconds, "version": version}


def main() -> None:
    """Answer line by line until the input ends; what the packages print goes to standard error."""
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
