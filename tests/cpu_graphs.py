"""CUDA graphs for tests: a GPU's own where there is one, and on the CPU a stand-in that repeats kernels, not Python.

On the CPU kernels are recorded with their very tensors. What was a number when it was recorded stays that number, and
answers lie in the same memory every time: the mistakes that a GPU would make silently.
"""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from offpol import cuda_graphs


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Recording(TorchDispatchMode):
    """Runs kernels and notes them; `undo` puts back what they overwrote, as recording must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple] = []
        self.born: set[int] = set()
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        if func._schema.is_mutable:
            for tensor in given:
                if storage(tensor) not in self.born:
                    everything = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                    self.before.setdefault(storage(tensor), (everything, everything.clone()))
        answer = func(*args, **kwargs)
        self.born |= {storage(tensor) for tensor in tensors(answer)} - {storage(tensor) for tensor in given}
        self.steps.append((func, args, kwargs, tensors(answer)))
        return answer

    def undo(self) -> None:
        for tensor, old in self.before.values():
            tensor.copy_(old)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, kept in self.steps:
            for old, new in zip(kept, tensors(func(*args, **kwargs)), strict=True):
                if storage(old) != storage(new):
                    old.copy_(new)


def record(work: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
    random = torch.get_rng_state()
    with _Recording() as recording:
        answer = work()
    recording.undo()
    torch.set_rng_state(random)
    return recording.replay, answer


class SideStream(nullcontext):
    def __init__(self, device: torch.device, priority: int) -> None:
        super().__init__()
        self.pool = None


DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]


@pytest.fixture(params=DEVICES)
def graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let `Recorder` work on a `device`; count the recordings that are `made`."""
    made: list[Any] = []
    record_ = record if request.param == "cpu" else cuda_graphs.record

    def counting(work: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
        made.append(work)
        return record_(work, pool)

    monkeypatch.setattr(cuda_graphs, "record", counting)
    if request.param == "cpu":
        monkeypatch.setattr(cuda_graphs, "SideStream", SideStream)
    return SimpleNamespace(made=made, device=request.param)
