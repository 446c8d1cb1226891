"""Logged log mu of rows beside what their versions' parameters give: the comparing half of `mu_check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from offpol.agent import Agent
from offpol.inspect.logged_rows import LoggedRows
from offpol.inspect.mu_formulas import Expected, Situation, formula
from offpol.memory.kernels_numpy import Bools, Floats, Ints
from offpol.types import StateDict

TOLERANCE = 1e-4  # of log mu; rounding of float32 stays far below
TF32, BFLOAT16 = 30.0, 300.0  # how much more these round: 10 and 7 bits of a number, where float32 has 23
MAX_ROWS = 5_000  # of each kind
TOO_MANY = 4.0  # standard deviations: once in 16,000 checks by chance
SHOWN = 5  # wrong rows that are told one by one


@dataclass
class Checked:
    """What came of one kind of rows. `undecided`: rounding decides which of nearly equal values is the largest."""

    kind: str
    note: str = ""
    rounding: float = 1.0  # of values, in units of what float32 makes: what is wrong is above so many times TOLERANCE
    rows: int = 0
    versions: int = 0
    largest_lag_updates: int = 0
    largest_error: float = 0.0  # of log mu
    num_wrong: int = 0
    explored: int = 0  # rows whose action was not among the likeliest
    ties: int = 0
    undecided: int = 0
    epsilon: tuple[float, float] = (np.inf, -np.inf)  # lowest, highest
    surprise: float = 0.0  # sum of log mu(a) - E log mu over the actions drawn
    variance: float = 0.0  # of that sum, if they were drawn by mu
    wrong: list[dict[str, float]] = field(default_factory=list)

    @property
    def draws_z(self) -> float:
        """By how many standard deviations the drawn actions' mean log mu is off."""
        return self.surprise / self.variance**0.5 if self.variance > 1e-9 else 0.0

    @property
    def drawn_otherwise(self) -> bool:
        """Whether that is too many to be chance."""
        return abs(self.draws_z) >= TOO_MANY

    def in_words(self, what: str) -> list[str]:
        """Say what came out, of rows that `what` describes."""
        note = f" ({self.note})" if self.note else ""
        if not self.rows:
            return [f"  {self.kind}: no {what}{note}"]
        low, high = self.epsilon
        lag = f", up to {self.largest_lag_updates} updates behind the learner" if self.kind == "fresh" else ""
        return [
            f"  {self.kind}: {self.rows:,} {what}{note}",
            f"    largest |log mu logged - recomputed| {self.largest_error:.1e}; "
            f"wrong, above {TOLERANCE * self.rounding:g}: {self.num_wrong:,}",
            f"    {self.versions:,} versions{lag}; epsilon {low:.4g} to {high:.4g}; {self.explored:,} explored, "
            f"{self.ties:,} ties, {self.undecided:,} where rounding decides which value is the largest",
            f"    are actions drawn as often as mu says? {self.draws_z:+.1f} standard deviations off "
            f"({TOO_MANY:g} is a no)",
            *(
                f"    WRONG: stream {w['stream']}, row {w['row']}, action {w['action']}, version {w['version']}: mu "
                f"{w['logged_mu']:.6g} logged, {w['recomputed_mu']:.6g} recomputed"
                for w in self.wrong
            ),
        ]


def compare(
    checked: Checked, rows: LoggedRows, wanted: Bools, versions: Mapping[int, StateDict], agent: Agent,
    behavior: Mapping[str, Any], rng: np.random.Generator,
) -> Checked:  # fmt: skip
    """Recompute log mu of the rows that `wanted` [S, K] selects and whose version's parameters are there."""
    network, expected = agent.acting.copy_of(agent.acting_network), formula(behavior)
    streams = len(rows.first)
    chosen = np.argwhere(wanted & rows.valid & rows.complete() & np.isin(rows.version, list(versions)))
    if len(chosen) > MAX_ROWS:
        chosen = chosen[rng.choice(len(chosen), MAX_ROWS, replace=False)]
    version = rows.version[tuple(chosen.T)]
    for number in np.unique(version):
        stream, row = chosen[version == number].T
        network.load_state_dict(versions[int(number)])
        q, pi = (values.double().numpy() for values in agent.values(rows.observations(stream, row), network))
        at = Situation(q, pi, rows.action[stream, row], rows.agent_steps[row], stream, streams, checked.rounding)
        found, log_mu = expected(behavior, at), rows.log_mu[stream, row].astype(np.float64)
        _judge(checked, found, at, log_mu, {"row": rows.first[stream] + row, "version": np.full(len(row), number)})
        checked.versions += 1
    return checked


def _judge(checked: Checked, found: Expected, at: Situation, log_mu: Floats, about: Mapping[str, Ints]) -> None:
    """Compare what was logged [N] with what was to be expected, and count."""
    with np.errstate(divide="ignore"):
        error = np.abs(np.log(found.allowed) - log_mu[:, None]).min(1)
        log_all = np.log(found.mu)
    error = np.where(np.isnan(error), np.inf, error)
    own = found.mu[np.arange(len(log_mu)), at.action]
    checked.rows += len(log_mu)
    checked.largest_error = max(checked.largest_error, float(error.max()))
    checked.explored += int((own < found.mu.max(1) - 1e-9).sum())
    checked.ties += int(found.tie.sum())
    checked.undecided += int(found.undecided.sum())
    low, high = float(found.epsilon.min()), float(found.epsilon.max())
    checked.epsilon = min(checked.epsilon[0], low), max(checked.epsilon[1], high)
    for i in np.flatnonzero(error > TOLERANCE * checked.rounding * found.slack).tolist():
        checked.num_wrong += 1
        if len(checked.wrong) < SHOWN:
            checked.wrong.append({
                "stream": int(at.stream[i]), **{name: int(values[i]) for name, values in about.items()},
                "action": int(at.action[i]), "agent_steps": int(at.agent_steps[i]),
                "logged_mu": float(np.exp(log_mu[i])), "recomputed_mu": float(own[i]),
            })  # fmt: skip
    information = np.where(found.mu > 0, found.mu * np.where(found.mu > 0, log_all, 0.0), 0.0)
    square = (information * np.where(found.mu > 0, log_all, 0.0)).sum(1)
    certain = ~found.undecided & (own > 0)
    checked.surprise += float((np.log(own[certain]) - information.sum(1)[certain]).sum())
    checked.variance += float(np.maximum(square - information.sum(1) ** 2, 0.0)[certain].sum())
