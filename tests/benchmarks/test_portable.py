"""Portable kernels give the bits that were found on processors of two makers."""

from __future__ import annotations

import platform
from importlib import metadata

import pytest

from benchmarks import portable

#: Found equal on an Intel Xeon and on an AMD EPYC with torch 2.13.0.
PROVEN = {
    "inputs": "579e15d93e38",
    "randn": "827161f4759a",
    "numpy exp": "c80181876b46",
    "exp": "c9bbf66afd75",
    "log": "c93af991c204",
    "log1p": "0a864f24801d",
    "expm1": "f25025b93cec",
    "tanh": "6a41e71c64ec",
    "sigmoid": "477b3dfa1ead",
    "erf": "3b1d860aecbc",
    "sin": "bdc246179af3",
    "rsqrt": "f5194b63254a",
    "lgamma": "4583a21c177e",
    "softplus": "7127b3551919",
    "logsigmoid": "9deb525073a6",
    "leaky_relu": "1154757dfecc",
    "softmax, last": "c05a6d1c227b",
    "softmax, last but one": "609eacca6c2d",
    "logsumexp": "d737be115b08",
    "sum": "ee5f12a6c072",
    "sum, last": "95a26c3c2e2e",
    "mean, first": "74376d905246",
    "variance": "f13eb22e9e08",
    "product 64 x 24 x 64": "967b17c0644e",
    "product 256 x 117 x 512": "eba95f7e28cf",
    "product 2304 x 128 x 784": "e68ceb705e10",
    "Adam, fused": "0192cbbe730c",
}


@pytest.mark.skipif(
    platform.machine() != "x86_64" or metadata.version("torch").split("+")[0] != "2.13.0",
    reason="fingerprints are those of torch 2.13.0 on x86-64",
)
def test_portable_kernels_give_the_bits_of_both_makers() -> None:
    found = portable.fingerprints("portable")
    assert {name: found[name] for name in PROVEN} == PROVEN
