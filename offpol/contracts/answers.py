"""Rows that parts are shown, and what is asked of any answer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from offpol.actions import are_distributions
from offpol.types import PolicyInputs, TraceInputs


def two_windows(n: int) -> TraceInputs:
    """Make windows of n transitions and two actions, the second one with an episode's end in it."""
    numbers = torch.arange(4.0 * (n + 1))
    waves = numbers[: 2 * n].view(2, n)
    ends = torch.zeros(2, n, dtype=torch.bool)
    ends[1, n // 2] = True
    return TraceInputs.of(
        q_values=(numbers * 0.9).cos().view(2, n + 1, 2),
        pi=torch.softmax((numbers * 1.7).sin().view(2, n + 1, 2), -1), action=((waves * 2.3).sin() > 0).long(),
        reward=waves - 2.0, discount=torch.where(ends, 0.0, 0.9), log_mu=(0.5 + 0.4 * (waves * 0.7).sin()).log(),
        valid_next=~ends,
    )  # fmt: skip


def waves(*shape: int, speed: float = 1.3) -> Tensor:
    """Return numbers in [-1, 1], no two of them alike."""
    return (torch.arange(1.0, 1.0 + torch.Size(shape).numel()) * speed).sin().view(shape)


def floats(answer: Any, what: str, shape: tuple[int, ...]) -> Tensor:
    """Return an answer; raise ValueError unless it is a tensor of that shape, of what everything is computed in."""
    dtype = torch.get_default_dtype()
    if not isinstance(answer, Tensor) or answer.shape != shape or answer.dtype != dtype:
        raise ValueError(f"{what} gives {said(answer)}, but must give {tuple(shape)} of {dtype}")
    if answer.isnan().any():
        raise ValueError(f"{what} gives NaN for finite numbers")
    return answer


def distribution(answer: Any, what: str, shape: tuple[int, ...]) -> Tensor:
    """Return an answer; raise ValueError unless it is a distribution over actions in each row."""
    probs = floats(answer, what, shape)
    if not are_distributions(probs.detach().numpy()).all():
        raise ValueError(f"{what} gives {probs[0].tolist()}, which is no distribution over actions: it must sum to 1")
    return probs


def require_gradient(loss: Tensor, logits: Tensor, name: str) -> None:
    """Raise ValueError for a loss that does not depend on the logits."""
    if not loss.requires_grad or not bool(torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0].any()):
        raise ValueError(
            f"{name}.loss has no gradient in the logits, so that nothing would be learned: is it detached?"
        )


@contextlib.contextmanager
def untouched(name: str, *shown: Tensor) -> Iterator[None]:
    """Raise ValueError where a part changes tensors that it is shown inside."""
    before = [tensor.detach().clone() for tensor in shown]
    yield
    if any(not torch.equal(tensor, kept) for tensor, kept in zip(shown, before, strict=True)):
        raise ValueError(
            f"{name} changes its inputs in place, which others read after it: compute new tensors, as reward + 1 "
            "instead of reward.add_(1)"
        )


def near(one: Any, two: Tensor) -> bool:
    """Tell whether an answer is a tensor, but for rounding."""
    return isinstance(one, Tensor) and one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def same_shapes(one: TraceInputs, two: TraceInputs) -> bool:
    return all(a.shape == b.shape for a, b in zip(fields_of(one), fields_of(two), strict=True))


def fields_of(inputs: TraceInputs | PolicyInputs) -> list[Tensor]:
    return [getattr(inputs, field.name) for field in dataclasses.fields(inputs)]


def said(answer: Any) -> str:
    """Say what something is."""
    if not isinstance(answer, Tensor):
        return f"a {type(answer).__name__}"
    return f"{tuple(answer.shape)} of {answer.dtype}"
