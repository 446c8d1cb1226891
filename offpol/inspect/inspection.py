"""One checkpoint under the lens: windows of its replay, and what every trace operator makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offpol.agent import Agent
from offpol.config import build_all
from offpol.errors import ConfigError
from offpol.evaluate import load_agent
from offpol.health import trace_ends, trace_lengths
from offpol.inspect.monte_carlo import KNOWN, monte_carlo_returns
from offpol.layers import is_noisy
from offpol.memory.ring import Ring
from offpol.memory.storage import InFile
from offpol.memory.windows import gather
from offpol.offline import digests_of, load_offline, require_same
from offpol.policy_base import PolicyBase
from offpol.record.checkpoint import Checkpoint
from offpol.record.segments import Segment, joined, rows_of, rows_per_stream
from offpol.schedule import Schedule
from offpol.types import EnvSpec, Trace, TraceInputs, TraceTargets

SHORTER = "try a shorter --window"  # where stored rows hold no window


@dataclass(frozen=True)
class Subject:
    """A checkpoint, ready to be looked at.

    `sources` are the rows that were learned from, by name, with the share of each; `own` names the run's operator.
    Where `mu_known` is False, nobody knows with which probabilities the actions of some rows were drawn.
    """

    spec: EnvSpec
    agent: Agent
    found: Checkpoint
    sources: dict[str, tuple[Ring, float]]
    own: str
    operators: dict[str, Trace]
    mu_known: bool

    @property
    def plain_rewards(self) -> bool:
        """Whether values are of the rewards alone, without a bonus of the policy's."""
        return getattr(type(self.agent.policy), "regularise", None) is PolicyBase.regularise


@dataclass(frozen=True)
class Windows:
    """W drawn windows of n transitions and what was made of them; arrays are on the CPU.

    `monte_carlo` [W] is what really came after a window's first row, NaN where that is not known to 1%. `place` [W, 2]
    tells source and slot. `lengths` [W] and `ends` (bool [W] by reason) are of each operator's first return.
    """

    inputs: TraceInputs
    targets: dict[str, TraceTargets]
    lengths: dict[str, np.ndarray]
    ends: dict[str, dict[str, np.ndarray]]
    age_updates: np.ndarray
    monte_carlo: np.ndarray
    place: np.ndarray

    @property
    def returns(self) -> dict[str, np.ndarray]:
        """The return [W] that each operator gives a window's first row."""
        return {name: targets.returns[:, 0].numpy() for name, targets in self.targets.items()}

    @property
    def valid(self) -> np.ndarray:
        """Whether each row of a window is a transition [W, n] (bool): rows after an episode's end are none."""
        after = self.inputs.valid_next[:, :-1].numpy()
        return np.concatenate([np.ones((len(after), 1), bool), after], 1)

    @property
    def rho(self) -> np.ndarray:
        """pi/mu of every transition [W, n], NaN in rows that are none."""
        rho = (self.inputs.log_pi - self.inputs.log_mu).clamp(-20, 20).exp().numpy()
        return np.where(self.valid, rho, np.nan)

    @property
    def q(self) -> np.ndarray:
        """Q of each window's first row [W]."""
        return self.inputs.q[:, 0].numpy()


def load(cfg: dict[str, Any], directory: Path, checkpoint: str | None, window: int | None) -> Subject:
    """Read a checkpoint of a run with a checked config, the newest where none is named.

    `window` replaces the run's. Raises ConfigError where there is no checkpoint, or no rows in it.
    """
    if window is not None:
        cfg["agent"] |= {"window": window, "train_positions": min(window, cfg["agent"]["train_positions"])}
        cfg["agent"]["annealing"]["window_end"] = window
    agent, spec, found = load_agent(cfg, directory, checkpoint, ["agent", "replay"])
    own, operators = operators_of(cfg["trace"], agent.trace)
    sources, mu_known = _sources(cfg, found, spec, directory)
    if is_noisy(agent.network) or not mu_known:
        mu_known = False
        operators = {name: trace for name, trace in operators.items() if not getattr(trace, "needs_mu", False)}
    for name, (ring, _) in sources.items():
        if not ring.num_drawable:
            raise ConfigError(
                f"The {name} rows of {found.path} hold no window of {ring.window} transitions: {SHORTER}."
            )
    return Subject(spec, agent, found, sources, own, operators, mu_known)


def operators_of(node: Mapping[str, Any], trace: Trace) -> tuple[str, dict[str, Trace]]:
    """Return the run's operator by name, and every operator of conf/trace, the run's own as the run has it."""
    module = node["_target_"].split(".")[-2]
    own = module if node["_target_"].startswith("offpol.trace.") else type(trace).__name__
    return own, build_all("trace") | {own: trace}


def stored_ring(cfg: Mapping[str, Any], found: Checkpoint, directory: Path) -> Ring:
    """Return the rows of a checkpoint's replay: in a file where the run had them in one, for lack of memory."""
    replay, storage = cfg["replay"], None
    if replay.get("storage") == "memmap":
        storage = InFile(Path(replay.get("directory") or directory))
    return joined(rows_of(found.state["replay"], str(found.path)), cfg["agent"]["window"], storage)


def _sources(
    cfg: Mapping[str, Any], found: Checkpoint, spec: EnvSpec, directory: Path
) -> tuple[dict[str, tuple[Ring, float]], bool]:
    """Return the rows that the run learned from at the checkpoint, each with its share of a batch; is mu known?"""
    replay, mu_known = cfg["replay"], True
    share = Schedule(**replay["offline_share"])(found.about["agent_steps"]) if "offline_share" in replay else 0.0
    rings = {}
    window = cfg["agent"]["window"]

    def require_window(name: str, segments: list[Segment]) -> None:
        if rows_per_stream(segments) < window + spec.stack:
            raise ConfigError(f"The {name} rows of {found.path} hold no window of {window} transitions: {SHORTER}.")

    if share < 1:
        require_window("online" if share else "stored", rows_of(found.state["replay"], str(found.path)))
        rings["online" if share else "stored"] = (stored_ring(cfg, found, directory), 1 - share)
    if share > 0:
        try:
            segments, mu_known = load_offline(replay["offline"], spec)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"replay.{error}") from error
        require_window("offline", segments)
        offline = joined(segments, window)
        require_same(digests_of(offline), found.state["replay"], replay["offline"])
        rings["offline"] = (offline, share)
    return rings, mu_known


def look(subject: Subject, batches: int, seed: int) -> Windows:
    """Draw batches of windows, every stored one equally often, and put each through every operator."""
    rng = np.random.default_rng(seed)
    agent, size = subject.agent, subject.agent.batch_size
    known = [monte_carlo_returns(ring, agent.horizon()[0]) for ring, _ in subject.sources.values()]
    seen: list[Windows] = []
    for _ in range(batches):
        for i, (ring, share) in enumerate(subject.sources.values()):
            number = max(1, round(size * share))
            starts = ring.draw(rng, number)
            batch = gather(
                ring, starts, np.full(number, 1 / ring.num_drawable, np.float32), np.ones(number, np.float32)
            )
            inputs = _on_cpu(agent.trace_inputs(batch))
            returns, rest = known[i]
            seen.append(_through(
                subject.operators, inputs,
                agent.updates - batch.policy_version[:, 0].numpy(),
                np.where(rest[starts] <= KNOWN, returns[starts], np.nan),
                np.stack([np.full(number, i), starts], 1),
            ))  # fmt: skip
    return _join(seen)


def _on_cpu(inputs: TraceInputs) -> TraceInputs:
    return replace(inputs, **{field.name: getattr(inputs, field.name).cpu() for field in fields(inputs)})


def _through(
    operators: Mapping[str, Trace], inputs: TraceInputs, age: np.ndarray, monte_carlo: np.ndarray, place: np.ndarray
) -> Windows:
    """Put one batch through every operator: some look at the whole batch."""
    targets = {name: operator(inputs) for name, operator in operators.items()}
    lengths = {name: trace_lengths(inputs, traced).numpy() for name, traced in targets.items()}
    ends = {
        name: {reason: ended.numpy() for reason, ended in trace_ends(inputs, traced).items()}
        for name, traced in targets.items()
    }
    return Windows(inputs, targets, lengths, ends, age, monte_carlo, place)


def _join(seen: list[Windows]) -> Windows:
    """Put the windows of all batches behind each other."""

    def cat(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(tensors))

    first = seen[0]
    inputs = TraceInputs(**{
        field.name: cat([getattr(each.inputs, field.name) for each in seen]) for field in fields(TraceInputs)
    })  # fmt: skip
    return Windows(
        inputs,
        {name: TraceTargets(*map(cat, zip(*(w.targets[name] for w in seen), strict=True))) for name in first.targets},
        {name: np.concatenate([w.lengths[name] for w in seen]) for name in first.lengths},
        {
            name: {reason: np.concatenate([w.ends[name][reason] for w in seen]) for reason in first.ends[name]}
            for name in first.ends
        },
        np.concatenate([w.age_updates for w in seen]),
        np.concatenate([w.monte_carlo for w in seen]),
        np.concatenate([w.place for w in seen]),
    )
