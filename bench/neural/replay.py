"""Work that is recorded once and replayed: on a GPU a training step is hundreds of launches, as a CUDA graph it is one.

What is recorded must be the same operations on the same memory each time. So inputs that change lie in buffers of their
own, what Python decides (the phase of a training, say) names the recording, and noise is drawn outside.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

#: How far a replay may be from the work itself: its result, and the change it makes to the state as a whole.
RESULT_TOLERANCE, CHANGE_TOLERANCE = 1e-3, 0.05

Work = Callable[[tuple[Tensor, ...]], Tensor]


class Recorder(Protocol):
    """What can record work on tensors."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], Any], Tensor]:
        """Record ``work``, which changes nothing now; return what replays it and the tensor that then has its result.

        Raises RuntimeError where the work cannot be recorded.
        """


class CudaGraphs:
    """Records on the current CUDA device; all recordings share one pool of memory, for they never run at once."""

    def __init__(self) -> None:
        """Record nothing yet."""
        self._pool: Any = None

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], Any], Tensor]:
        """Capture ``work`` as a CUDA graph; its kernels are noted and do not run."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = work()
        self._pool = graph.pool()
        return graph.replay, result


def recorder_for(device: str | torch.device) -> Recorder | None:
    """Return what records on a device, None where recording gains nothing."""
    return CudaGraphs() if torch.device(device).type == "cuda" else None


@dataclass(frozen=True)
class _Recording:
    """Work that was recorded: the buffers it reads, what replays it, and its result."""

    inputs: tuple[Tensor, ...]
    replay: Callable[[], Any]
    result: Tensor

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Replay with other inputs and return the result, which the next replay overwrites."""
        for buffer, value in zip(self.inputs, inputs, strict=True):
            buffer.copy_(value)
        self.replay()
        return self.result


class Replays:
    """Does work as it is the first time, which readies what is made on first use; then records it, and replays that.

    A recording is used only if its first replay agrees with the work itself from the same state. Where it does not, or
    nothing can be recorded, a warning says so and all work is done as it is.
    """

    def __init__(self, recorder: Recorder | None, state: Callable[[], Sequence[Tensor]]) -> None:
        """Record with ``recorder``, None for never; ``state`` returns every tensor that work may change."""
        self._recorder, self._state = recorder, state
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, _Recording] = {}

    @property
    def recording(self) -> bool:
        """Whether work is recorded."""
        return self._recorder is not None

    def run(self, name: Hashable, inputs: tuple[Tensor, ...], work: Work) -> Tensor:
        """Do ``work`` on ``inputs`` and return its result; under one name it must be the same operations each time."""
        known = self._recordings.get(name)
        if known is not None:
            return known.run(inputs).clone()
        if self._recorder is None or name not in self._seen:
            self._seen.add(name)
            return work(inputs)
        return self._record(self._recorder, name, inputs, work)

    def _record(self, recorder: Recorder, name: Hashable, inputs: tuple[Tensor, ...], work: Work) -> Tensor:
        """Do the work, record it, and keep the recording if it does the same."""
        before = copies(self._state())
        expected = work(inputs)
        after = copies(self._state())
        buffers = tuple(copies(inputs))
        try:
            replay, result = recorder.record(lambda: work(buffers))
            recording = _Recording(buffers, replay, result)
            restore(self._state(), before)
            replayed = recording.run(inputs).clone()
            reason = disagreement(expected, replayed, before, after, self._state())
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
        if not reason:
            self._recordings[name] = recording
            return replayed
        restore(self._state(), after)
        self._recorder = None
        self._recordings.clear()
        warnings.warn(f"training steps are not replayed, and slower for it: {reason}", stacklevel=2)
        return expected


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
    expected: Tensor, replayed: Tensor, before: Sequence[Tensor], after: Sequence[Tensor], state: Sequence[Tensor]
) -> str:
    """Return how a replay differs from the work itself, or nothing where it does not.

    Sums on a GPU may differ in their last bits from one time to the next, and Adam enlarges those where a gradient is
    next to nothing: so the change of the state is compared as a whole.
    """
    if not torch.allclose(expected, replayed, rtol=RESULT_TOLERANCE, atol=RESULT_TOLERANCE, equal_nan=True):
        return f"a replay gave {replayed.flatten().tolist()} where the step itself gave {expected.flatten().tolist()}"
    change = apart = 0.0
    for was, own, here in zip(before, after, state, strict=True):
        change += float((own.double() - was.double()).square().nansum())
        apart += float((here.double() - own.double()).square().nansum())
    if apart > CHANGE_TOLERANCE**2 * change:
        share = (apart / change) ** 0.5 if change else float("inf")
        return f"a replay changed the networks otherwise than the step itself, by {share:.2g} of the change"
    return ""
