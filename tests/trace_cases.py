"""Random windows, and the paper's sum written out in plain float64 Python."""

import math

import torch

from offpol.types import TraceInputs

GAMMA = 0.9


def random_inputs(seed: int, windows: int = 6, n: int = 7, actions: int = 4, ends: float = 0.25) -> TraceInputs:
    """Windows with random values, policies, behaviors, terminations and truncations, in float64."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    terminated = rand(windows, n) < ends
    truncated = rand(windows, n) < ends
    pi = torch.softmax(4 * rand(windows, n + 1, actions), -1)
    return TraceInputs.of(
        q_values=6 * rand(windows, n + 1, actions) - 3, pi=pi,
        action=torch.randint(actions, (windows, n), generator=g), reward=2 * rand(windows, n) - 1,
        discount=GAMMA * (~terminated).double(), log_mu=torch.log(0.02 + 0.98 * rand(windows, n)),
        valid_next=~(terminated | truncated),
    )  # fmt: skip


def explicit_sum(inputs: TraceInputs, b: int, t: int, c: list[float]) -> float:
    """Q(s_t, a_t) + sum_{s>=t} (prod_{i=t}^{s-1} d_i k_i) (prod_{i=t+1}^{s} c_i) delta_s (Munos et al., eq. 3)."""
    q, v, r, d = (x[b].tolist() for x in (inputs.q, inputs.v, inputs.reward, inputs.discount))
    k = inputs.valid_next[b].tolist()
    total = q[t]
    for s in range(t, len(r)):
        if not all(k[t:s]):
            break
        total += math.prod(d[t:s]) * math.prod(c[t + 1 : s + 1]) * (r[s] + d[s] * v[s + 1] - q[s])
    return total


def retrace_coefficients(inputs: TraceInputs, b: int, lambda_: float) -> list[float]:
    pairs = zip(inputs.log_pi[b].tolist(), inputs.log_mu[b].tolist(), strict=True)
    return [lambda_ * min(1.0, math.exp(log_pi) / math.exp(log_mu)) for log_pi, log_mu in pairs]


def max_gap(got: torch.Tensor, want: list[list[float]]) -> float:
    return (got - torch.tensor(want, dtype=torch.float64)).abs().max().item()


def sums(inputs: TraceInputs, coefficients: list[list[float]]) -> list[list[float]]:
    """`explicit_sum` for every row of every window."""
    windows, n = inputs.q.shape
    return [[explicit_sum(inputs, b, t, coefficients[b]) for t in range(n)] for b in range(windows)]


def changed(inputs: TraceInputs, **fields: torch.Tensor) -> TraceInputs:
    """Return the inputs with some fields replaced."""
    return TraceInputs(**{**vars(inputs), **fields})
