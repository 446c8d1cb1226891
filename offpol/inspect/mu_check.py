"""Is mu computed right? Logged probabilities, recomputed from parameters and rows alone.

Two kinds of rows are checked. *Stored* ones: those of the run's replay that were acted by parameters which are still
there, the checkpoints' (`run.keep_checkpoints`) and the initial ones, which the seed gives. And *fresh* ones: the run
goes on in a scratch folder, with its own topology and learning, while the parameters of every version are kept. In both
cases observations are put together from the stored frames, the values are those of the version that the row names, and
everything after that is done anew, in float64, by `offpol.inspect.mu_formulas`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offpol.actor import Episode
from offpol.agent import Agent, Update
from offpol.assembly import Parts, build_parts
from offpol.cli.saved_config import load_saved
from offpol.config import build
from offpol.errors import ConfigError
from offpol.inspect.logged_rows import LoggedRows
from offpol.inspect.mu_compare import BFLOAT16, TF32, TOLERANCE, Checked, compare
from offpol.inspect.mu_formulas import formula
from offpol.layers import is_noisy
from offpol.record import provenance, run_directory
from offpol.record.checkpoint import Checkpoint, load_checkpoint, older_than
from offpol.record.own_code import other_code
from offpol.record.segments import rows_of
from offpol.run import Run, RunConfig
from offpol.types import Batch, Rows, StateDict

MAX_VERSIONS_BYTES = 1e9  # of parameters that are kept
NOISY = (
    "The network has noisy layers: what is logged is the probability under the noise of that moment, while an action's "
    "own is an average over all noise, which no formula gives. So there is nothing to compare with, and no part of "
    "offpol that needs mu takes such a network (network.heads.noisy=0)."
)


@dataclass(frozen=True)
class Result:
    """Both kinds of rows of one checkpoint."""

    checkpoint: str
    behavior: str
    stored: Checked
    fresh: Checked

    @property
    def logged_right(self) -> bool:
        """Whether every logged probability is the recomputed one, and there was any."""
        return not self.stored.num_wrong and not self.fresh.num_wrong and self.fresh.rows > 0

    @property
    def drawn_right(self) -> bool:
        """Whether actions come as often as these probabilities say."""
        return not self.stored.drawn_otherwise and not self.fresh.drawn_otherwise

    @property
    def right(self) -> bool:
        """Both."""
        return self.logged_right and self.drawn_right


def check(cfg: dict[str, Any], directory: Path, checkpoint: str | None, steps: int, seed: int) -> Result:
    """Check the stored and the fresh rows of a checkpoint of a run; the run itself is left as it is.

    Raises ConfigError where that is impossible, with the reason.
    """
    formula(cfg["behavior"])
    found = load_checkpoint(directory / run_directory.CHECKPOINTS, checkpoint)
    rows_of(found.state.get("replay", {}), str(found.path))
    cfg["run"] |= {"agent_steps": found.about["agent_steps"] + steps, "eval_episodes": 0}
    if cfg["replay"].get("storage") == "memmap" and cfg["replay"]["directory"] is None:
        cfg["replay"]["directory"] = str(directory)  # where there is room for it
    _require_known_schedules(cfg, found.about["agent_steps"])
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="offpol-inspect-") as scratch:
        parts = build_parts(cfg, Path(scratch))
        if is_noisy(parts.agent.network):
            raise ConfigError(NOISY)
        rounding = _rounding(cfg["run"], load_saved(directory)["run"])
        stored = _stored(cfg, directory, found, parts, Checked("stored", rounding=rounding), rng)
        fresh = _fresh(cfg, Path(scratch), found, parts, Checked("fresh", rounding=rounding), rng)
    return Result(found.path.name, cfg["behavior"]["_target_"].split(".")[-1], stored, fresh)


def _rounding(*runs: Mapping[str, Any]) -> float:
    """Tell how much more than float32 the values of the run and of its check may be apart, from their sections `run`.

    On CPUs both compute alike, in whatever type. A GPU takes TF32 for float32, and may add up in another order.
    """
    if all(run["device"] == "cpu" for run in runs):
        return 1.0
    return BFLOAT16 if any(run["autocast"] == "bfloat16" for run in runs) else TF32


def _together(cfg: Mapping[str, Any]) -> bool:
    """Tell whether all streams are stepped at once."""
    return not cfg["topology"]["_target_"].startswith("offpol.topology.ray_workers.")


def _require_known_schedules(cfg: Mapping[str, Any], agent_steps: int) -> None:
    """Raise ConfigError where rows do not tell where a schedule stood when they were acted."""
    schedules = [value for value in cfg["behavior"].values() if isinstance(value, Mapping)]
    ends = max(schedule.get("from_agent_steps", 0) + schedule["over_agent_steps"] for schedule in schedules)
    if not _together(cfg) and ends > agent_steps:
        raise ConfigError(
            "Workers act by the number of agent steps at which a chunk was asked for, which rows do not hold, and a "
            "schedule of the behavior is not over yet: check a checkpoint from after its end."
        )


def _stored(
    cfg: Mapping[str, Any], directory: Path, found: Checkpoint, parts: Parts, checked: Checked,
    rng: np.random.Generator,
) -> Checked:  # fmt: skip
    """Check rows of the replay that were acted by parameters which are still there."""
    acts = "target_network" if parts.agent.target.acts else "network"
    kept = [found, *older_than(found.path, only=["agent"])]
    versions = {each.about["updates"]: each.state["agent"][acts] for each in kept}
    if _same_code(directory):
        versions[0] = copy.deepcopy(parts.agent.acting_network.state_dict())
    else:
        checked.note = "only the run's own commit and torch could rebuild its initial parameters"
    if not _together(cfg):
        checked.note = "rows of workers do not tell where schedules stood"
        return checked
    rows = LoggedRows(found.state["replay"]["rows"], found.about["agent_steps"])
    return compare(checked, rows, np.ones_like(rows.valid), versions, parts.agent, cfg["behavior"], rng)


def _same_code(directory: Path) -> bool:
    """Tell whether this very code makes the run's initial parameters from its seed."""
    then, now = run_directory.read_info(directory), provenance.describe(0)
    clean = bool(now["git"]) and now["git"].get("dirty") is False
    return clean and all(then.get(key) == now[key] for key in ("git", "versions")) and not other_code(then)


def _fresh(
    cfg: Mapping[str, Any], scratch: Path, found: Checkpoint, parts: Parts, checked: Checked, rng: np.random.Generator
) -> Checked:
    """Go on from the checkpoint, keep the parameters of every version, and check the rows that this adds."""
    parts.agent.load_state_dict(found.state["agent"])
    parts.replay.load_state_dict(found.state["replay"])
    before = found.state["replay"]["rows"][-1]["stop"]
    settings: RunConfig = build(cfg["run"], "run")
    memory = _Memory(parts.agent)
    run = _Watched(scratch, settings, parts.agent, memory)
    run.go_on(found)
    with run:
        parts.topology.run(parts.actors, parts.agent, parts.replay, run)
    checked.largest_lag_updates = run.largest_lag
    if memory.full:
        checked.note = f"ended after {run.agent_steps - found.about['agent_steps']:,} agent steps, as memory is bounded"
    since = (before - parts.actors.spec.stack).clamp(min=0)
    rows = LoggedRows(parts.replay.state_dict(since=since)["rows"], run.agent_steps, _together(cfg))
    new = rows.first[:, None] + np.arange(rows.valid.shape[1]) >= before.numpy()[:, None]
    return compare(checked, rows, new, memory.versions, parts.agent, cfg["behavior"], rng)


class _Memory:
    """Keeps the parameters of every version that an agent goes through."""

    def __init__(self, agent: Agent) -> None:
        size = sum(parameter.numel() * parameter.element_size() for parameter in agent.network.parameters())
        self._most = max(2, int(MAX_VERSIONS_BYTES / size))
        self.versions: dict[int, StateDict] = {}
        self._agent, self._update = agent, agent.update
        agent.whole_update = None  # would pass `update` by
        agent.update = self.update  # type: ignore[method-assign]
        self._keep()

    @property
    def full(self) -> bool:
        """Whether no more should be kept."""
        return len(self.versions) >= self._most

    def update(self, batch: Batch, measure: bool = False) -> Update:
        """Update as the agent does, then keep its parameters."""
        done = self._update(batch, measure)
        self._keep()
        return done

    def _keep(self) -> None:
        self.versions[self._agent.updates] = copy.deepcopy(self._agent.acting_network.state_dict())


class _Watched(Run):
    """A run in a scratch folder that saves nothing, and notes how old the acting parameters were."""

    def __init__(self, folder: Path, settings: RunConfig, agent: Agent, memory: _Memory) -> None:
        super().__init__(folder, settings, title="check of mu", frames_per_agent_step=1, levels={})
        self._agent, self._memory, self.largest_lag = agent, memory, 0

    def go_on(self, found: Checkpoint) -> None:
        """Count from where the checkpoint was."""
        self.agent_steps, self.updates = found.about["agent_steps"], found.about["updates"]
        self.resumed = {name: part for name, part in found.state.items() if name in ("actor", "topology")}

    def count(self, rows: Rows, episodes: Sequence[Episode]) -> None:
        """Note the policy lag of rows that were just stored."""
        self.largest_lag = max(self.largest_lag, int(self._agent.updates - rows.policy_version.min()))
        super().count(rows, episodes)

    @property
    def done(self) -> bool:
        """Whether enough was acted."""
        return super().done or self._memory.full

    def after_step(self, save: Callable[[], StateDict]) -> None:
        """Save and log nothing."""
        if self.signal is not None:
            raise KeyboardInterrupt


def write(result: Result, out: Path) -> Path:
    """Write mu.json into a folder."""
    path = out / "mu.json"
    tolerance = TOLERANCE * result.fresh.rounding
    run_directory.write_json(path, {**asdict(result), "right": result.right, "tolerance": tolerance})
    return path


def in_words(result: Result) -> str:
    """Say what was checked, and what came out."""
    lines = [
        f"mu of {result.behavior}, recomputed in float64 from parameters and rows (checkpoint {result.checkpoint})"
    ]
    lines += result.stored.in_words("rows of the replay whose parameters are still there")
    lines += result.fresh.in_words("rows of the run going on, with every version's parameters")
    right = "Every logged probability is the recomputed one."
    lines.append(right if result.logged_right else "Logged probabilities are WRONG.")
    if not result.drawn_right:
        lines.append("Actions are NOT drawn as often as mu says.")
    return "\n".join(lines)
