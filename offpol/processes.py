"""What the processes of one data-parallel agent agree on, by torch.distributed. Alone, each is its own answer."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

DEADLINE = datetime.timedelta(minutes=5)  # for an answer of a process that is computing
PATIENCE = datetime.timedelta(days=30)  # for the next update: the first process may be acting or evaluating
_connected = False


def world_size() -> int:
    """Return how many processes torchrun started for this run."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return which of them this is; 0 acts, keeps the replay, and writes."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def end_with_launcher() -> None:
    """Have this process asked to end when torchrun dies: killed, it would leave its processes behind. Linux only."""
    if world_size() > 1 and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def local_device(name: str) -> str:
    """Return the device of this process: of "cuda" each takes its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and world_size() > 1 else name


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Connect the processes, by nccl between GPUs and by gloo between CPUs."""
    from torch import distributed

    global _connected
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=DEADLINE, device_id=device if backend == "nccl" else None)
    _connected = True
    try:
        yield
    finally:
        _connected = False
        distributed.destroy_process_group()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """For `with`: joint means are of this process's rows only, as the others may be doing something else."""
    global _connected
    connected, _connected = _connected, False
    try:
        yield
    finally:
        _connected = connected


def joint_mean(values: Tensor, share: Tensor) -> Tensor:
    """Average values [M] over the rows of all processes (0-dim); `share` [M] is 1 / N at this one's N rows, or 0."""
    mean = values @ share
    if not _connected:
        return mean
    import torch

    count = 1 / share.max()
    sums = torch.stack([mean * count, count])
    torch.distributed.all_reduce(sums)
    return sums[0] / sums[1]


def backward(loss: Tensor, share: Tensor, sound: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Compute the gradient of the mean loss over the rows of all processes; `loss` (0-dim) is that of this one's.

    Return the sum of `sound` (0-dim) over them: not finite in all, where it is not in one, so that all agree on it.
    """
    if not _connected:
        loss.backward()
        return sound
    import torch

    count = 1 / share.max()
    total = count.clone()
    torch.distributed.all_reduce(total)
    (loss * (count / total)).backward()
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), sound.detach().view(1)])
    torch.distributed.all_reduce(flat)
    sums: Sequence[Tensor] = flat.split([*(gradient.numel() for gradient in gradients), 1])
    for gradient, part in zip(gradients, sums[:-1], strict=True):
        gradient.copy_(part.view_as(gradient))
    return sums[-1].squeeze()
