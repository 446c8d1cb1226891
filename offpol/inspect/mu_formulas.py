"""What mu should have been, from values and config alone, in float64: written from the definitions, not from behavior/.

`offpol.inspect.mu_check` compares it with what was logged, so nothing here may be shared with the code that logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from offpol.errors import ConfigError

NEAR = 1e-5  # of the largest value in sight: values nearer to each other may be equal, or not, but for rounding


@dataclass(frozen=True)
class Situation:
    """N rows to be explained; floats are float64."""

    q: np.ndarray  # [N, A] by the parameters that acted
    pi: np.ndarray  # [N, A]
    action: np.ndarray  # [N] taken
    agent_steps: np.ndarray  # [N] before the step
    stream: np.ndarray  # [N]
    num_streams: int
    rounding: float = 1.0  # of the values, in units of what float32 makes


@dataclass(frozen=True)
class Expected:
    """The distribution that each action was drawn from, as far as rounding leaves it certain.

    `allowed` are the probabilities of the action taken that rounding of the values allows; of certain rows all are
    the same. `slack`: how much more than usual rounding may change log mu.
    """

    mu: np.ndarray  # [N, A]
    allowed: np.ndarray  # [N, C]
    epsilon: np.ndarray  # [N]
    tie: np.ndarray  # [N] bool, several actions are the best and share
    undecided: np.ndarray  # [N] bool, rounding decides which are
    slack: float = 1.0


Formula = Callable[[Mapping[str, Any], Situation], Expected]


def formula(cfg: Mapping[str, Any]) -> Formula:
    """Return the formula of a behavior's config; ConfigError where there is none."""
    target = cfg["_target_"]
    if target not in FORMULAS:
        raise ConfigError(
            f"behavior is {target}, for which offpol.inspect.mu_formulas has no formula: add one, from its definition "
            "rather than from its code, or there is nothing to compare with."
        )
    return FORMULAS[target]


def epsilon_greedy(cfg: Mapping[str, Any], at: Situation) -> Expected:
    """Share 1 - epsilon evenly among the actions of largest value, and epsilon among all."""
    values, rows = at.q if cfg["over"] == "q" else at.pi, np.arange(len(at.action))
    top, epsilon = values.max(1, keepdims=True), _epsilon(cfg, at)
    best, near = values == top, values >= top - NEAR * at.rounding * (np.abs(values).max() + 1e-3)
    base = best / best.sum(1, keepdims=True)
    undecided = near.sum(1) > best.sum(1)
    loose = undecided & near[rows, at.action]  # the action taken may share with any of the near ones, or not be best
    own = base[rows, at.action]
    shares = [np.where(loose & (k <= near.sum(1)), 1.0 / k, own) for k in range(1, values.shape[1] + 1)]
    allowed = _mixed(np.stack([own, np.where(loose, 0.0, own), *shares], 1), epsilon, values.shape[1])
    return Expected(_mixed(base, epsilon, values.shape[1]), allowed, epsilon, best.sum(1) > 1, undecided)


def epsilon_policy(cfg: Mapping[str, Any], at: Situation) -> Expected:
    """Mix pi with uniform."""
    return _smooth(at.pi, _epsilon(cfg, at), at, 1.0)


def boltzmann(cfg: Mapping[str, Any], at: Situation) -> Expected:
    """Mix exp(Q / temperature) / sum exp(Q / temperature) with uniform."""
    logits = at.q / _scheduled(cfg["temperature"], at.agent_steps)[:, None]
    weights = np.exp(logits - logits.max(1, keepdims=True))
    slack = 1.0 + np.abs(logits).max() / 50.0  # rounding of Q is multiplied by 1 / temperature
    epsilon = _scheduled(cfg["epsilon"], at.agent_steps)
    return _smooth(weights / weights.sum(1, keepdims=True), epsilon, at, float(slack))


FORMULAS: dict[str, Formula] = {
    "offpol.behavior.epsilon_greedy.EpsilonGreedy": epsilon_greedy,
    "offpol.behavior.epsilon_policy.EpsilonPolicy": epsilon_policy,
    "offpol.behavior.boltzmann.Boltzmann": boltzmann,
}


def _smooth(base: np.ndarray, epsilon: np.ndarray, at: Situation, slack: float) -> Expected:
    """Return what a base distribution without ties [N, A] makes."""
    mu = _mixed(base, epsilon, base.shape[1])
    never = np.zeros(len(mu), bool)
    return Expected(mu, mu[np.arange(len(mu)), at.action][:, None], epsilon, never, never, slack)


def _mixed(base: np.ndarray, epsilon: np.ndarray, num_actions: int) -> np.ndarray:
    """Return (1 - epsilon) base + epsilon / A for base [N, ...]."""
    mixed: np.ndarray = (1.0 - epsilon[:, None]) * base + epsilon[:, None] / num_actions
    return mixed


def _scheduled(schedule: Mapping[str, float], steps: np.ndarray) -> np.ndarray:
    """Return start + (end - start) (steps - first) / over, between start and end."""
    over, gone = schedule["over_agent_steps"], steps - schedule.get("from_agent_steps", 0)
    share = np.clip(gone / over, 0.0, 1.0) if over else (gone >= 0).astype(np.float64)
    return schedule["start"] + (schedule["end"] - schedule["start"]) * share


def _epsilon(cfg: Mapping[str, Any], at: Situation) -> np.ndarray:
    """Return the schedule's epsilon, to the power 1 + exponent i / (S - 1) in stream i of S (Horgan et al. 2018)."""
    rung = at.stream / max(at.num_streams - 1, 1)
    epsilon: np.ndarray = _scheduled(cfg["epsilon"], at.agent_steps) ** (1.0 + cfg["ladder_exponent"] * rung)
    return epsilon
