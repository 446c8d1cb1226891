"""Work that a GPU is told once and then only asked to repeat."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

# Recording waits for the whole device, which breaks another recording; and in older torch (2.11) no other thread may
# draw random numbers on that GPU meanwhile.
RECORDING = threading.Lock()
WARM_UP = 3  # times that work is done as it is, before it is recorded: libraries choose their algorithms meanwhile


class SideStream:
    """For `with`: work inside runs on a stream of its own, after what was asked for before and before what comes."""

    def __init__(self, device: torch.device, priority: int) -> None:
        self.stream, self.pool = torch.cuda.Stream(device, priority), torch.cuda.graph_pool_handle()
        self._inside: Any = None

    def __enter__(self) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        self._inside = torch.cuda.stream(self.stream)
        self._inside.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._inside.__exit__(kind, error, at)
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)


def record(work: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
    """Record work of the current stream without doing it; return what does it, and the answer it overwrites."""
    graph = torch.cuda.CUDAGraph()
    # thread_local: an actor's thread may ask the same GPU for memory meanwhile.
    with (
        RECORDING,
        _no_collection(),
        torch.cuda.graph(graph, pool, torch.cuda.current_stream(), capture_error_mode="thread_local"),
    ):
        answer = work()
    return graph.replay, answer


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from freeing what lies on the GPU, such as a graph that is gone, in the middle of a recording."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Recorder:
    """Does `work(inputs, *variant)` as it is a few times, and from then on as a CUDA graph, one for each variant.

    A graph repeats kernels, not Python: the work may depend on the numbers in `inputs` and on what lies on the device,
    where it has to stay in place; everything else must be told apart by the variant. The answer is overwritten by the
    next call of any variant: they share their memory.
    """

    def __init__(self, work: Callable[..., Any], device: torch.device, priority: int = 0) -> None:
        self.work, self.device, self.priority = work, device, priority
        self.aside = SideStream(device, priority)
        self.calls: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, tuple[Tensor, Callable[[], None], Any]] = {}

    def __call__(self, inputs: Tensor, *variant: Hashable) -> Any:
        """Do the work, for real in every case."""
        key = (inputs.shape, *variant)
        with self.aside:
            self.calls[key] += 1
            if self.calls[key] <= WARM_UP:
                with RECORDING:
                    return self.work(inputs, *variant)
            if key not in self.recorded:
                kept = inputs.clone()
                self.recorded[key] = (kept, *record(partial(self.work, kept, *variant), self.aside.pool))
            kept, replay, answer = self.recorded[key]
            kept.copy_(inputs)
            with RECORDING:
                replay()
            return answer

    def invalidate(self) -> None:
        """Record anew: something that the work reads was put elsewhere."""
        self.calls.clear()
        self.recorded.clear()
        # With a pool of its own: answers that are kept may hold on to the old one.
        self.aside = SideStream(self.device, self.priority)
