"""Distributions over discrete actions, and drawing from them so that the logged probability is exact."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offpol.errors import RunError


def greedy_probs(values: Tensor) -> Tensor:
    """Put all mass on the best action; ties share it evenly. values [..., A] -> probabilities [..., A]."""
    best = (values == values.amax(-1, keepdim=True)).to(values.dtype)
    return best / best.sum(-1, keepdim=True)


def mix_uniform(probs: Tensor, epsilon: float | Tensor) -> Tensor:
    """Return (1 - epsilon) probs + epsilon / A; probs [..., A], epsilon a number or broadcastable."""
    return probs * (1 - epsilon) + epsilon / probs.shape[-1]


def ladder(epsilon: float, exponent: float, num_envs: int, first: int = 0, of: int | None = None) -> Tensor:
    """Spread exploration over streams: epsilon^(1 + exponent i / (S - 1)) [E, 1] (Ape-X, Horgan et al. 2018).

    For i = first .. first + E - 1 of the S = `of` streams of all actors; None: there is one actor. Exponent 0 gives
    every stream the same epsilon; a single stream gets epsilon itself.
    """
    fraction = torch.arange(first, first + num_envs, dtype=torch.float64) / max((of or num_envs) - 1, 1)
    return torch.pow(torch.tensor(epsilon, dtype=torch.float64), 1 + exponent * fraction).float().unsqueeze(1)


def are_distributions(probs: np.ndarray) -> np.ndarray:
    """Say of each row of probs [E, A] whether it is a distribution: [E] bool, False for NaN."""
    fine: np.ndarray = (probs >= 0).all(1) & (np.abs(probs.sum(1) - 1) < 1e-4)
    return fine


def require_distributions(probs: np.ndarray, whose: str, agent_steps: int) -> None:
    """Raise RunError unless the rows of probs [E, A] are distributions: a part of somebody's own may be none.

    What is drawn from numbers that do not sum to 1 is not drawn with the probability that is logged.
    """
    fine = are_distributions(probs)
    if fine.all():
        return
    row = probs[np.argmin(fine)]
    raise RunError(
        f"{whose} gave at agent step {agent_steps:,} the probabilities {np.array2string(row, precision=4)}, which are "
        f"no distribution (their sum is {row.sum():.4g}): mend its `probs`."
    )


def draw(probs: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one action per row of probs [E, A]; return actions [E] int64 and their log-probabilities [E].

    The log is taken of the very numbers that were drawn from, so it is the exact behavior probability.
    An action of probability zero is never drawn: the cumulated mass must exceed the threshold strictly.
    """
    mass = probs.astype(np.float64).cumsum(axis=1)
    threshold = rng.random(len(probs)) * mass[:, -1]
    action = (mass > threshold[:, None]).argmax(axis=1)
    return action, np.log(probs[np.arange(len(probs)), action])
