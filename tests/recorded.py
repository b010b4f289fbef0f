"""What a CUDA graph does, on a CPU: the operations of some work, done again on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.neural.engine.replay import Tensors, Work, copies, restore


class _Operations(TorchDispatchMode):
    """Notes every operation with its inputs and outputs, and what it overwrote."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Callable[..., Any], Sequence[Any], dict[str, Any], Any]] = []
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        named = dict(options or {})
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a recording cannot tell a value")
        if function is torch.ops.aten.lift_fresh.default:
            # torch.tensor(...): on a GPU a copy from pageable memory, which a graph cannot hold.
            raise RuntimeError("a recording cannot copy a value from Python")
        if torch.Tag.nondeterministic_seeded in function.tags:
            raise RuntimeError("a recording cannot draw at random")
        given = dict(zip([argument.name for argument in function._schema.arguments], arguments, strict=False)) | named
        for argument in function._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = [value for value in tree_leaves(given.get(argument.name)) if isinstance(value, Tensor)]
                self.overwritten += [(tensor, tensor.clone()) for tensor in written]
        result = function(*arguments, **named)
        self.calls.append((function, arguments, named, result))
        return result


class RecordedOperations:
    """A recorder that refuses what a CUDA graph refuses, and replays what it saw: no Python, the same memory."""

    def __init__(self) -> None:
        """Record nothing yet."""
        self.recordings = self.replays = 0

    def record(self, work: Work, inputs: Tensors) -> Work:
        """Record ``work`` on buffers of its own and undo what it did: a graph is captured without running."""
        seen, buffers = _Operations(), tuple(copies(inputs))
        try:
            with seen:
                results = work(buffers)
        finally:
            with torch.no_grad():
                for tensor, value in reversed(seen.overwritten):
                    tensor.copy_(value)
        self.recordings += 1

        @torch.no_grad()
        def replay(given: Tensors) -> Tensors:
            self.replays += 1
            restore(buffers, given)
            for function, arguments, options, outputs in seen.calls:
                fresh = function(*arguments, **options)
                for old, new in zip(tree_leaves(outputs), tree_leaves(fresh), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
            return tuple(copies(results))

        return replay
