"""Which operations have the same bits on another processor, under each setting of ``run --kernels``.

``python -m benchmarks.portable`` prints a fingerprint per operation and setting: the first 12 digits of the SHA-256 of
the bytes of its result, on inputs that are equal everywhere. Run it on two processors and compare the lines: an
operation that differs rounds differently there, and training amplifies it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bench.run.machine import KERNELS
from benchmarks.common import ROOT

if TYPE_CHECKING:
    from torch import Tensor

#: Sizes of products: of a table's layer, of MisGAN on Mushroom, of an image's decoder.
PRODUCTS = ((64, 24, 64), (256, 117, 512), (2304, 128, 784))
ELEMENTWISE = ("exp", "log", "log1p", "expm1", "tanh", "sigmoid", "erf", "sin", "sqrt", "rsqrt", "lgamma")
#: Defined for positive numbers only.
POSITIVE = ("log", "log1p", "sqrt", "rsqrt", "lgamma")


def digits(value: Tensor) -> str:
    """Return the fingerprint of a tensor's bytes."""
    return hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()[:12]


def operations() -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the result of each operation, on one thread."""
    import numpy as np
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    numbers = np.random.default_rng(0)

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(numbers.standard_normal(shape, dtype=np.float32))

    z = normal(100_003)
    square = z[:90_000].double().numpy().reshape(300, 300)
    yield "inputs", z
    yield "randn", torch.randn(100_003, generator=torch.Generator().manual_seed(0))
    yield "numpy exp", torch.from_numpy(np.exp(z.numpy()))
    yield "numpy product, float64", torch.from_numpy(square @ square)
    for name in ELEMENTWISE:
        yield name, getattr(torch, name)(z.abs() + 0.1 if name in POSITIVE else z)
    shaped: dict[str, Callable[[Tensor], Tensor]] = {
        "softplus": functional.softplus,
        "logsigmoid": functional.logsigmoid,
        "leaky_relu": functional.leaky_relu,
        "softmax, last": lambda x: torch.softmax(x[:100_000].view(-1, 8), -1),
        "softmax, last but one": lambda x: torch.softmax(x[:100_000].view(-1, 8, 10), -2),
        "logsumexp": lambda x: torch.logsumexp(x[:100_000].view(-1, 100), -1),
        "sum": torch.sum,
        "sum, last": lambda x: x[:100_000].view(-1, 100).sum(-1),
        "mean, first": lambda x: x[:100_000].view(100, -1).mean(0),
        "variance": lambda x: x[:100_000].view(-1, 100).var(-1),
    }
    for name, function in shaped.items():
        yield name, function(z)
    for rows, inputs, outputs in PRODUCTS:
        yield f"product {rows} x {inputs} x {outputs}", normal(3, rows, inputs) @ normal(3, inputs, outputs)
    weight = torch.nn.Parameter(z[:9999].clone())
    optimiser = torch.optim.Adam([weight], lr=1e-3, fused=True)
    for _ in range(5):
        optimiser.zero_grad()
        (weight.square() * z[:9999]).sum().backward()
        optimiser.step()
    yield "Adam, fused", weight


def fingerprints(kernels: str) -> dict[str, str]:
    """Return the fingerprint of each operation in a new process with these kernels; raises CalledProcessError."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.portable", "--child"],
        env={**os.environ, **KERNELS[kernels], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    read: dict[str, str] = json.loads(done.stdout)
    return read


def main() -> None:
    """Print a line per operation, a column per setting of ``--kernels``."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    if arguments.parse_args().child:
        print(json.dumps({name: digits(value) for name, value in operations()}))
        return
    columns = {name: fingerprints(name) for name in KERNELS}
    print(f"{'operation':28s} " + " ".join(f"{name:12s}" for name in columns))
    for operation in next(iter(columns.values())):
        print(f"{operation:28s} " + " ".join(column[operation] for column in columns.values()))


if __name__ == "__main__":
    main()
