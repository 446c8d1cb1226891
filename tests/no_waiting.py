"""A stand-in for a GPU that nobody may wait for: whatever would make the host wait raises."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# What needs numbers that only the device has: to hand one over, or to know how large the answer is.
WAITING_KERNELS = {
    torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default,
    torch.ops.aten.unique_consecutive.default, torch.ops.aten._unique2.default, torch.ops.aten.unique_dim.default,
    torch.ops.aten.bincount.default, torch.ops.aten.repeat_interleave.Tensor, torch.ops.aten.equal.default,
}  # fmt: skip
WAITING_CALLS = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.item, Tensor.__array__}
INDEXING = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_}


class _Kernels(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = func.overloadpacket in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in WAITING_KERNELS or masks:
            raise AssertionError(f"{func} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        numbers = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if func in WAITING_CALLS or numbers:  # a GPU gets Python's numbers from memory that is not pinned
            raise AssertionError(f"{func.__name__} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise AssertionError where anything inside, also in a backward pass, would wait for the device."""
    with _Calls(), _Kernels():
        yield
