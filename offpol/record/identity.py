"""What makes two runs the same experiment, or the same agent: hashes of resolved configs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from offpol.atari_protocol import rom_name, title
from offpol.record.run_keys import BUDGET, GAME, INCIDENTAL, ON_DEVICE

GREEDY = "offpol.behavior.epsilon_greedy.EpsilonGreedy"  # follows what its config says
FOLLOWED = {"offpol.behavior.epsilon_policy.EpsilonPolicy": "policy", "offpol.behavior.boltzmann.Boltzmann": "q"}
MINARI = "minari:"  # what names of datasets begin with, where a run's folder could stand


class Identified:
    """What has a resolved config `cfg`: a job to be run, or a run that is or was."""

    cfg: Mapping[str, Any]

    @cached_property
    def identity(self) -> str:
        """What it shares with the runs of other seeds."""
        return run_identity(self.cfg)

    @cached_property
    def agent(self) -> str:
        """What it shares with the runs of the same agent in other games."""
        return agent_identity(self.cfg)

    @cached_property
    def game(self) -> str:
        """What it plays, by the name that reports use."""
        return game_of(self.cfg)

    @property
    def seed(self) -> int:
        """The root seed."""
        return int(self.cfg["seed"])


def run_identity(cfg: Mapping[str, Any]) -> str:
    """Hash everything but the seed, the machine and the cadences: runs of one identity differ by chance alone."""
    return config_hash(cfg, INCIDENTAL)


def agent_identity(cfg: Mapping[str, Any]) -> str:
    """Hash a run without its game too: what is compared across games."""
    return config_hash(cfg, INCIDENTAL | GAME)


def pace_identity(cfg: Mapping[str, Any]) -> str:
    """Hash a run without game and budget: runs that take about the same time per agent step."""
    return config_hash(cfg, INCIDENTAL | GAME | BUDGET)


def config_hash(cfg: Mapping[str, Any], ignored: Collection[str]) -> str:
    """Return 10 hex digits of the SHA-256 of a resolved config without the keys `ignored`.

    1 and 1.0 are equal, and so are the spellings of a game, Pong and pong, of a path, a replay on the host and on a
    device, and final games that are asked for or follow from the behavior.
    """
    kept = {key: value for key, value in flatten(cfg) if key not in ignored}
    if kept.get("run.eval_over", "") is None:
        kept["run.eval_over"] = to_be_over(cfg)
    if "env.game" in kept:
        kept["env.game"] = game_of(cfg)
    if isinstance(kept.get("replay.offline"), str):
        kept["replay.offline"] = located(kept["replay.offline"])
    if kept.get("replay._target_") in ON_DEVICE:
        kept["replay._target_"] = ON_DEVICE[kept["replay._target_"]]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:10]


def to_be_over(cfg: Mapping[str, Any]) -> str | None:
    """Return by what final games will be played, as `offpol.evaluate.followed` does, but without importing any part.

    None where a behavior from outside decides: that is known once the games are played.
    """
    if over := cfg["run"]["eval_over"]:
        return str(over)
    behavior = cfg["behavior"]
    return FOLLOWED.get(behavior["_target_"]) or (behavior["over"] if behavior["_target_"] == GREEDY else None)


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a config's values by dotted key, whole floats as ints; empty mappings as themselves."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{key}.")
        else:
            yield key, int(value) if isinstance(value, float) and value.is_integer() else value


def located(source: str) -> str:
    """Name stored data so that it is found from any folder: the path of a run in full, or minari:ID as it is.

    What is empty stays so: it is not the folder that one stands in.
    """
    return source if not source or source.startswith(MINARI) else str(Path(source).expanduser().absolute())


def game_of(cfg: Mapping[str, Any]) -> str:
    """Name what a config plays as `EnvSpec.name` does, without building it: Breakout, MinAtar-breakout, CartPole-v1."""
    env, target = cfg["env"], cfg["env"]["_target_"]
    if target.startswith("offpol.env.atari."):
        return title(rom_name(env["game"]))
    if target.startswith("offpol.env.minatar."):
        return f"MinAtar-{env['game']}"
    if target.startswith("offpol.env.chain."):
        return f"Chain-{env['length']}"
    return str(env.get("id", env.get("game", target.split(".")[-2])))
