"""The question on a blackboard: every trace operator, exactly, on a small random MDP.

All windows that a behavior can produce are enumerated with their probabilities, and the operators of conf/trace are
averaged over them: what a replay of infinite size would teach, without noise. `offpol-tabular` draws it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from offpol.types import Trace, TraceInputs, TraceTargets

DTYPE = torch.float64


@dataclass(frozen=True)
class MDP:
    """S states, A actions, b possible successors of each pair.

    successor [S, A, b] int64, probability [S, A, b], reward [S, A], discount [S]: gamma on entering a state, 0
    where that ends the episode.
    """

    successor: Tensor
    probability: Tensor
    reward: Tensor
    discount: Tensor

    @property
    def transition(self) -> Tensor:
        """[S, A, S] discounted probability of the next state."""
        states = torch.nn.functional.one_hot(self.successor, len(self.discount)).to(DTYPE)
        return (self.probability.unsqueeze(-1) * states).sum(-2) * self.discount


@dataclass(frozen=True)
class Windows:
    """Every window of n transitions, and its probability given its first state and action."""

    state: Tensor  # [W, n+1] int64
    action: Tensor  # [W, n] int64
    probability: Tensor  # [W]


def random_mdp(seed: int, states: int, actions: int, successors: int, gamma: float, terminal: int = 0) -> MDP:
    """Draw an MDP; entering one of the first `terminal` states ends an episode."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(states, actions, successors, generator=g, dtype=DTYPE) + 0.1
    discount = torch.full((states,), gamma, dtype=DTYPE)
    discount[:terminal] = 0.0
    order = torch.rand(states, actions, states, generator=g).argsort(-1)
    return MDP(
        successor=order[..., :successors], probability=weights / weights.sum(-1, keepdim=True),
        reward=2 * torch.rand(states, actions, generator=g, dtype=DTYPE) - 1, discount=discount,
    )  # fmt: skip


def q_of(mdp: MDP, pi: Tensor) -> Tensor:
    """Solve for Q^pi [S, A]; pi [S, A]."""
    pairs = mdp.reward.numel()
    onward = (mdp.transition.unsqueeze(-1) * pi).reshape(pairs, pairs)
    solved: Tensor = torch.linalg.solve(torch.eye(pairs, dtype=DTYPE) - onward, mdp.reward.flatten())
    return solved.view_as(mdp.reward)


def q_star(mdp: MDP) -> Tensor:
    """Find Q* [S, A] by policy iteration."""
    greedy = torch.zeros_like(mdp.reward).index_fill_(1, torch.tensor([0]), 1.0)
    while True:
        q = q_of(mdp, greedy)
        better = torch.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).to(DTYPE)
        if torch.equal(better, greedy):
            return q
        greedy = better


def enumerate_windows(mdp: MDP, mu: Tensor, n: int) -> Windows:
    """List the windows that mu [S, A] can produce, from each state and first action; S A b (A b)^(n-1) at most."""
    num_states, num_actions = mdp.reward.shape
    state = torch.arange(num_states).repeat_interleave(num_actions).unsqueeze(1)
    action = torch.arange(num_actions).repeat(num_states).unsqueeze(1)
    probability = torch.ones(len(state), dtype=DTYPE)
    for t in range(n):
        last = state[:, -1], action[:, -1]
        branches = mdp.successor.shape[-1]
        state = torch.cat([_repeat(state, branches), mdp.successor[last].reshape(-1, 1)], 1)
        action = _repeat(action, branches)
        probability = _repeat(probability, branches) * mdp.probability[last].flatten()
        if t < n - 1:
            probability = _repeat(probability, num_actions) * mu[state[:, -1]].flatten()
            action = torch.cat([_repeat(action, num_actions), torch.arange(num_actions).repeat(len(state))[:, None]], 1)
            state = _repeat(state, num_actions)
    possible = probability > 0
    return Windows(state[possible], action[possible], probability[possible])


def _repeat(rows: Tensor, times: int) -> Tensor:
    return rows.repeat_interleave(times, 0)


def trace_inputs(mdp: MDP, windows: Windows, q: Tensor, pi: Tensor, mu: Tensor) -> TraceInputs:
    """Look windows up in tables; q, pi, mu [S, A]."""
    state, action = windows.state, windows.action
    discount = mdp.discount[state[:, 1:]]
    return TraceInputs.of(
        q_values=q[state], pi=pi[state], action=action, reward=mdp.reward[state[:, :-1], action],
        discount=discount, log_mu=mu[state[:, :-1], action].log(), valid_next=discount > 0,
    )  # fmt: skip


def apply(trace: Trace, mdp: MDP, windows: Windows, q: Tensor, pi: Tensor, mu: Tensor) -> tuple[Tensor, float]:
    """Average the operator's returns of every (s, a) over its windows.

    Returns the new Q [S, A] and the mean trace length, 1 + sum_j c_{t+1} .. c_{t+j} within the episode.
    """
    inputs = trace_inputs(mdp, windows, q, pi, mu)
    targets = _answers(trace, inputs, windows)
    pair = windows.state[:, 0] * q.shape[1] + windows.action[:, 0]
    new = torch.zeros(q.numel(), dtype=DTYPE).index_add_(0, pair, windows.probability * targets.returns[:, 0])
    lengths = 1.0 + (targets.trace[:, 1:] * inputs.valid_next[:, :-1]).cumprod(1).sum(1)
    return new.view_as(q), ((lengths * windows.probability).sum() / q.numel()).item()


def _answers(trace: Trace, inputs: TraceInputs, windows: Windows) -> TraceTargets:
    """Trace enumerated windows; what looks at all of them counts each by its probability, as a replay does."""
    if getattr(trace, "reads_batch", False):
        weighed: TraceTargets = cast(Any, trace)(inputs, windows.probability)
        return weighed
    return trace(inputs)


def noise(trace: Trace, mdp: MDP, windows: Windows, q: Tensor, pi: Tensor, mu: Tensor) -> float:
    """Return the standard deviation of one window's return around its mean, as a root mean square over all (s, a)."""
    inputs = trace_inputs(mdp, windows, q, pi, mu)
    mean, _ = apply(trace, mdp, windows, q, pi, mu)
    deviation = _answers(trace, inputs, windows).returns[:, 0] - mean[windows.state[:, 0], windows.action[:, 0]]
    return ((windows.probability * deviation.square()).sum() / q.numel()).sqrt().item()


def jacobian(trace: Trace, mdp: MDP, windows: Windows, q: Tensor, pi: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Return the averaged operator's value [S, A] and derivative [S A, S A] at q; exact where it `is_affine`."""
    here, _ = apply(trace, mdp, windows, q, pi, mu)
    units = torch.eye(q.numel(), dtype=DTYPE).view(-1, *q.shape)
    columns = [(apply(trace, mdp, windows, q + unit, pi, mu)[0] - here).flatten() for unit in units]
    return here, torch.stack(columns, 1)


def fixed_point(trace: Trace, mdp: MDP, windows: Windows, pi: Tensor, mu: Tensor) -> tuple[Tensor, float]:
    """Return where an operator that is affine in q ends (if its rate is below 1), and the rate at which.

    The rate is the spectral radius: an application multiplies the error by it, in the long run.
    """
    start = torch.zeros_like(mdp.reward)
    offset, derivative = jacobian(trace, mdp, windows, start, pi, mu)
    end = torch.linalg.solve(torch.eye(start.numel(), dtype=DTYPE) - derivative, offset.flatten())
    return end.view_as(start), torch.linalg.eigvals(derivative).abs().max().item()


def soften(q: Tensor, temperature: float, epsilon: float) -> Tensor:
    """Return (1 - epsilon) softmax(q / temperature) + epsilon / A, [S, A]."""
    return (1 - epsilon) * torch.softmax(q / temperature, -1) + epsilon / q.shape[-1]


def is_affine(trace: Trace) -> bool:
    """Tell whether an averaged operator is affine in q: not where q decides on its trace, or the largest is taken."""
    mdp = random_mdp(0, states=5, actions=2, successors=2, gamma=GAMMA)
    q = mdp.reward  # any table with values on both sides of 0
    pi, mu = soften(q, 0.5, 0.0), soften(q, 0.5, 0.5)
    windows = enumerate_windows(mdp, mu, 2)
    here, derivative = jacobian(trace, mdp, windows, q, pi, mu)
    there, _ = apply(trace, mdp, windows, -q, pi, mu)
    return torch.allclose(there, here - 2 * (derivative @ q.flatten()).view_as(q))


# ------------------------------------------------------------------------------------------ the survey

EPSILONS = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]
SHOWN = 3  # the epsilon whose errors are drawn by iteration
GAMMA = 0.99


@dataclass(frozen=True)
class Finding:
    """What one operator makes of one behavior."""

    errors: list[float]  # max |Q_k - Q^pi| for k = 0, 1, ...
    bias: float  # the same at the fixed point
    worth: float  # how many one-step backups an application is worth: log(rate) / log(gamma)
    noise: float  # standard deviation of a single return, at Q^pi
    length: float  # mean trace length


def operators() -> dict[str, Trace]:
    """Build the operators of conf/trace that are affine in q; watkins is not, and goes towards Q*."""
    from offpol.config import build_all

    return {name: trace for name, trace in build_all("trace").items() if is_affine(trace)}


def study(trace: Trace, mdp: MDP, pi: Tensor, mu: Tensor, window: int, iterations: int) -> Finding:
    """Follow an operator from Q = 0, and say where and how fast it goes."""
    truth, q, length = q_of(mdp, pi), torch.zeros_like(mdp.reward), 0.0
    windows = enumerate_windows(mdp, mu, window)
    errors = [(q - truth).abs().max().item()]
    for _ in range(iterations):
        q, length = apply(trace, mdp, windows, q, pi, mu)
        errors.append((q - truth).abs().max().item())
    end, rate = fixed_point(trace, mdp, windows, pi, mu)
    return Finding(
        errors, bias=(end - truth).abs().max().item(), worth=math.log(rate) / math.log(GAMMA),
        noise=noise(trace, mdp, windows, truth, pi, mu), length=length,
    )  # fmt: skip


def survey(seed: int, window: int, iterations: int) -> dict[str, list[Finding]]:
    """Study every operator at every epsilon; the behavior mixes pi, a soft policy over Q*, with uniform actions."""
    mdp = random_mdp(seed, states=5, actions=2, successors=2, gamma=GAMMA)
    best = q_star(mdp)
    pi = soften(best, 0.1, 0.0)
    return {
        name: [
            study(trace, mdp, pi, soften(best, 0.1, e), window, iterations if i == SHOWN else 1)
            for i, e in enumerate(EPSILONS)
        ]
        for name, trace in operators().items()
    }


def table(results: dict[str, list[Finding]]) -> str:
    """Say in text what the figure shows."""
    titles = {
        "bias": "bias: max |Q - Q^pi| where it ends", "worth": "speed: one-step backups that an application is worth",
        "noise": "noise: standard deviation of one return", "length": "mean trace length",
    }  # fmt: skip
    lines = []
    for field, title in titles.items():
        lines += [title, f"{'behavior epsilon':20}" + "".join(f"{e:8g}" for e in EPSILONS)]
        for name, findings in results.items():
            lines.append(f"{name:20}" + "".join(f"{getattr(finding, field):8.2f}" for finding in findings))
        lines.append("")
    return "\n".join(lines)
