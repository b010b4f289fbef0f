"""What a computation has to do at least: FLOPs, bytes moved and kernels launched, and the time a machine needs for it.

Every operation is taken to read its inputs and write its outputs once, and to compute no faster than the machine
multiplies and adds; nothing is fused. The counts are the same on a CPU and on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

#: Operations that move no data.
FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense", "_unsafe_view")


@dataclass(frozen=True)
class Machine:
    """What a device does at most: FLOPs and bytes per second, and seconds between kernels when launched one by one."""

    name: str
    flops: float
    bytes: float

    def seconds(self, flops: float, moved: float) -> float:
        """Return the least time of one operation: what it computes or what it moves, whichever takes longer."""
        return max(flops / self.flops, moved / self.bytes)


#: Without tensor cores, as float32 is computed by default; vendors' peak figures.
MACHINES = {
    "H100": Machine("H100 SXM, float32", 67e12, 3.35e12),
    "H200": Machine("H200 SXM, float32", 67e12, 4.8e12),
    "A100": Machine("A100 SXM, float32", 19.5e12, 2.04e12),
}


@dataclass(frozen=True)
class Work:
    """What a computation does: ``seconds`` is the least a machine needs for it, operation by operation."""

    flops: float = 0.0
    bytes: float = 0.0
    launches: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.launches + other.launches,
            self.seconds + other.seconds,
        )

    def less(self, other: Work, parts: int) -> Work:
        """Return what is left without ``other``, in equal parts."""
        return Work(
            (self.flops - other.flops) / parts,
            (self.bytes - other.bytes) / parts,
            (self.launches - other.launches) / parts,
            (self.seconds - other.seconds) / parts,
        )


class Counter(TorchDispatchMode):
    """Counts the work of whatever runs within it, gradients and optimisers included."""

    def __init__(self, machine: Machine) -> None:
        """Start at nothing."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.machine, self.work = machine, Work()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        result = func(*args, **(kwargs or {}))
        if not _is_free(func):
            inputs, outputs = _tensors((args, kwargs or {})), _tensors(result)
            moved = float(_bytes(inputs) + _bytes(outputs))
            formula = flop_registry.get(func.overloadpacket)
            elements = sum(tensor.numel() for tensor in outputs)
            flops = float(formula(*args, **(kwargs or {}), out_val=result)) if formula is not None else float(elements)
            self.work += Work(flops, moved, 1.0, self.machine.seconds(flops, moved))
        return result


def counted(task: Callable[[], object], machine: Machine) -> Work:
    """Return the work of a call."""
    counter = Counter(machine)
    with counter:
        task()
    return counter.work


def _is_free(func: Any) -> bool:
    """Return whether an operation only looks at memory in another way, or only takes it."""
    if func.overloadpacket.__name__ in FREE:
        return True
    returned = [value.alias_info for value in func._schema.returns]
    return bool(returned) and all(alias is not None and not alias.is_write for alias in returned)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes behind tensors; what is expanded or given twice is read once."""
    once = {(tensor.data_ptr(), tuple(tensor.shape), tensor.stride()): tensor for tensor in tensors}
    return sum(_own_elements(tensor) * tensor.element_size() for tensor in once.values())


def _own_elements(tensor: Tensor) -> int:
    return math.prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0)
