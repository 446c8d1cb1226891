"""Copies between the host and a device, in as few steps and with as little waiting as can be."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def upload(values: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """Copy what lies on the host to a device without waiting for it; what is there already is not copied."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # torch keeps pinned memory until the copy is done, so the values may be changed at once.
    return tensor.pin_memory().to(device, non_blocking=True)


def download(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Copy two tensors of one shape to the host, waiting for their device once; on the CPU they are themselves."""
    if first.device.type == "cpu":
        return first, second
    one, other = torch.stack([first, second]).cpu().unbind()
    return one, other
