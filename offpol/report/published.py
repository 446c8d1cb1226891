"""Published agents (offpol/data/), and whether their scores may stand beside a run's: only where protocols match."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import yaml

from offpol.config import conf_dir
from offpol.record.identity import to_be_over
from offpol.record.run_results import RunResult
from offpol.reference_scores import DATA, rows

# Facts that must be equal, and those that are only pointed out, each with the words for it.
STRICT = {
    "sticky_probability": "sticky actions", "life_loss": "a lost life", "full_action_space": "all 18 actions",
    "reward_clipping": "reward clipping", "frame_skip": "frames of an agent step",
    "max_frames_per_episode": "frames a game may last",
}  # fmt: skip
MINOR = {
    "noop_max": "no-op starts", "evaluation_epsilon": "random actions in evaluation",
}  # fmt: skip
STATISTICS = {
    "final_evaluation": "full games with the final policy",
    "training_1m_frames": "training returns over the last million frames",
    "training_last_tenth": "training returns over the last tenth of training",
}


@dataclass(frozen=True)
class Published:
    """An agent's raw scores at one budget: per run where `of_runs`, else one mean a game."""

    name: str
    agent_steps: int
    statistic: str
    replay_ratio: float | None
    protocol: Mapping[str, Any]  # None: not stated in what was read
    source: str
    note: str
    scores: Mapping[str, np.ndarray]
    of_runs: bool
    training_epsilon: float | None = None  # of returns while training


@functools.cache
def published() -> tuple[Published, ...]:
    """Return every agent at every budget that ships with offpol."""
    scores: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    of_runs: dict[tuple[str, int], bool] = {}
    for row in rows(DATA / "published_scores.csv"):
        key = row["agent"], int(row["agent_steps"])
        runs = row["runs"].split(";") if row["runs"] else [row["mean"]]
        scores.setdefault(key, {})[row["game"]] = np.array(runs, dtype=np.float64)
        of_runs[key] = bool(row["runs"])
    about = {agent["name"]: agent for agent in json.loads((DATA / "published_agents.json").read_text())["agents"]}
    return tuple(
        Published(
            name, steps, about[name]["statistic"], about[name]["replay_ratio"],
            {fact: about[name][fact] for fact in (*STRICT, *MINOR)}, about[name]["source"],
            about[name]["note"], games, of_runs[name, steps], about[name].get("training_epsilon"),
        )
        for (name, steps), games in scores.items()
    )  # fmt: skip


def protocol_of(run: RunResult) -> dict[str, Any]:
    """Return what gives a run's score its meaning: how the env is played, for how long, and how it is measured."""
    env = dict(run.cfg["env"])
    protocol = env.pop("protocol", None)
    if protocol is None:
        protocol = {key: value for key, value in env.items() if key not in ("_target_", "game", "id", "render")}
    epsilon = run.evaluation["epsilon"] if run.evaluation else run.cfg["run"]["eval_epsilon"]
    if epsilon is None:
        epsilon = protocol.get("evaluation_epsilon", 0.0)
    return {
        **protocol,
        "evaluation_epsilon": epsilon,
        "evaluation_episodes": run.evaluation["episodes"] if run.evaluation else run.cfg["run"]["eval_episodes"],
        "evaluation_over": run.evaluation["over"] if run.evaluation else to_be_over(run.cfg) or "what actors follow",
        "evaluated_policy": "final",
        "budget_agent_steps": run.budget,
        "budget_frames": run.budget * run.frames_per_agent_step,
    }


def training_epsilon(cfg: Mapping[str, Any]) -> float | None:
    """Return the epsilon that a run's envs all explore with at its end; None where they explore otherwise."""
    behavior = cfg["behavior"]
    if not behavior["_target_"].endswith(".EpsilonGreedy") or behavior["ladder_exponent"]:
        return None
    return float(behavior["epsilon"]["end"])


def changes(run: RunResult) -> list[str]:
    """List how a run's env differs from its preset, or from the env's own yaml where there are no presets."""
    target = run.cfg["env"]["_target_"]
    protocol = run.cfg["env"].get("protocol") or run.cfg["env"]
    if "name" not in protocol and not target.startswith("offpol.env."):
        return []
    name = f"preset/{protocol['name']}" if "name" in protocol else target.split(".")[2]
    path = conf_dir() / "env" / f"{name}.yaml"
    usual = yaml.safe_load(path.read_text()) if path.is_file() else {}
    own = {"_target_", "game", "id", "render"}
    return [f"{key}={protocol[key]}" for key in usual if key not in own and protocol.get(key) != usual[key]]


class Match(NamedTuple):
    """How a published agent's protocol compares: what differs, what differs a little, what is not stated."""

    differs: list[str]
    minor: list[str]
    unstated: list[str]


def match(ours: Mapping[str, Any], theirs: Published) -> Match:
    """Compare protocols. Scores may stand side by side only where nothing `differs`."""
    found = Match([], [], [])
    for facts, into in ((STRICT, found.differs), (MINOR, found.minor)):
        for fact, words in facts.items():
            if fact == "evaluation_epsilon" and theirs.statistic != "final_evaluation":
                continue
            if theirs.protocol[fact] is None:
                found.unstated.append(words)
            elif theirs.protocol[fact] != ours[fact]:
                into.append(f"{words}: {_said(theirs.protocol[fact])}, here {_said(ours[fact])}")
    if not 0.99 < theirs.agent_steps / ours["budget_agent_steps"] < 1.01:
        found.differs.append(f"{theirs.agent_steps:,} agent steps, here {ours['budget_agent_steps']:,}")
    return found


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
