"""The one door to recorded work, replayed without Python: a training step is hundreds of small operations.

On a GPU they are one launch, as a CUDA graph; on a CPU TorchScript runs them without asking autograd again how. What is
recorded must be the same operations each time: values that change come in as inputs, what Python decides (the phase of
a training, say) names the recording, and noise is drawn outside.
"""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

#: Set to "off", this environment variable has nothing recorded: every step is done as it is.
REPLAY_VARIABLE = "VSAE_BENCH_REPLAY"
#: How far a replay may be from the work itself, of the norm of each result and of the whole change of the state.
RESULT_TOLERANCE, CHANGE_TOLERANCE = 1e-3, 0.05

Tensors = tuple[Tensor, ...]
Work = Callable[[Tensors], Tensors]


class Recorder(Protocol):
    """What can record work on tensors."""

    def record(self, work: Work, inputs: Tensors) -> Work:
        """Return what replays ``work``, recorded on ``inputs``; it may change the state once in doing so.

        Raises RuntimeError if the work cannot be recorded.
        """


class CudaGraphs:
    """Records on the current CUDA device; all recordings share one pool of memory, for they never run at once."""

    def __init__(self) -> None:
        """Record nothing yet."""
        self._pool: Any = None

    def record(self, work: Work, inputs: Tensors) -> Work:
        """Capture ``work`` as a CUDA graph that reads its inputs from buffers of its own."""
        graph, buffers = torch.cuda.CUDAGraph(), tuple(copies(inputs))
        with no_garbage_collection(), torch.cuda.graph(graph, pool=self._pool):
            results = work(buffers)
        self._pool = graph.pool()

        def replay(given: Tensors) -> Tensors:
            restore(buffers, given)
            graph.replay()
            # The next replay overwrites them.
            return tuple(copies(results))

        return replay


class Traces:
    """Records as TorchScript, which runs the very operations on the CPU, their gradients' among them, without Python.

    It drops operations that do nothing but overwrite a list of tensors, as fused Adam is one: optimisers stay outside.
    """

    def record(self, work: Work, inputs: Tensors) -> Work:
        """Trace ``work``; raises RuntimeError also where this version of torch has no TorchScript."""
        from torch.fx.experimental.proxy_tensor import make_fx

        if not hasattr(torch.jit, "trace"):
            raise RuntimeError("torch.jit.trace is not there")
        graph = make_fx(lambda *given: work(given))(*inputs)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, and does what nothing else does as cheaply
            traced = torch.jit.trace(graph, inputs, check_trace=False)

        @torch.no_grad()
        def replay(given: Tensors) -> Tensors:
            return tuple(traced(*given))

        return replay


def recorders(device: str, same_operations: bool = True) -> tuple[Recorder | None, Recorder | None]:
    """Return what records whole training steps on a device, and what records gradients; None if nothing is gained.

    On a CPU only steps of the ``same_operations`` each time are recorded: those on images and features differ from
    batch to batch (``PackedRows``), and are long.
    """
    kind = torch.device(device).type
    if os.environ.get(REPLAY_VARIABLE, "").lower() == "off":
        return None, None
    if kind == "cuda":
        return CudaGraphs(), None
    return None, Traces() if kind == "cpu" and same_operations else None


class Replays:
    """Does work as it is the first time, which readies what is made on first use; then records it, and replays that.

    A recording is used only if its first replay agrees with the work itself from the same state. Where it does not, or
    nothing can be recorded, a warning says so and all work is done as it is.
    """

    def __init__(self, recorder: Recorder | None, state: Callable[[], Sequence[Tensor]]) -> None:
        """Record with ``recorder``, None for never; ``state`` returns every tensor that work may change."""
        self._recorder, self._state = recorder, state
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, Work] = {}

    @property
    def recording(self) -> bool:
        """Whether work is recorded."""
        return self._recorder is not None

    def run(self, name: Hashable, inputs: Tensors, work: Work) -> Tensors:
        """Do ``work`` on ``inputs`` and return its results; under one name it must be the same operations each time."""
        replay = self._recordings.get(name)
        if replay is not None:
            return replay(inputs)
        if self._recorder is None or name not in self._seen:
            self._seen.add(name)
            return work(inputs)
        return self._record(self._recorder, name, inputs, work)

    def _record(self, recorder: Recorder, name: Hashable, inputs: Tensors, work: Work) -> Tensors:
        """Do the work, record it, and keep the recording if it does the same."""
        before = copies(self._state())
        expected = tuple(copies(work(inputs)))
        after = copies(self._state())
        try:
            replay = recorder.record(work, inputs)
            restore(self._state(), before)
            replayed = replay(inputs)
            reason = disagreement(expected, replayed, before, after, self._state())
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
        if not reason:
            self._recordings[name] = replay
            return replayed
        restore(self._state(), after)
        self._recorder = None
        self._recordings.clear()
        warnings.warn(f"training steps are not replayed, and slower for it: {reason}", stacklevel=2)
        return expected


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector still: an earlier graph that it frees during a capture would spoil that capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of tensors."""
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def restore(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Overwrite tensors with values."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


@torch.no_grad()
def disagreement(
    expected: Sequence[Tensor],
    replayed: Sequence[Tensor],
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    state: Sequence[Tensor],
) -> str:
    """Return how a replay differs from the work itself, or nothing if it does not.

    Sums on a GPU may differ in their last bits from one time to the next, and Adam enlarges those where a gradient is
    next to nothing: so the change of the state is compared as a whole.
    """
    for one, other in zip(expected, replayed, strict=True):
        size, difference = (float(part.double().nan_to_num().norm()) for part in (one, one - other))
        if difference > RESULT_TOLERANCE * size or not torch.equal(one.isfinite(), other.isfinite()):
            return f"a replay gave other results than the step itself, {difference:.2g} apart where they are {size:.2g}"
    change = apart = 0.0
    for was, own, here in zip(before, after, state, strict=True):
        change += float((own.double() - was.double()).square().nansum())
        apart += float((here.double() - own.double()).square().nansum())
    if apart > CHANGE_TOLERANCE**2 * change:
        share = (apart / change) ** 0.5 if change else float("inf")
        return f"a replay changed the networks otherwise than the step itself, by {share:.2g} of the change"
    return ""
