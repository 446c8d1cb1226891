"""What a config must be, before anything is built: no torch is needed to say so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offpol import processes
from offpol.config import check, coerce
from offpol.errors import ConfigError, did_you_mean
from offpol.record.identity import flatten, game_of
from offpol.record.run_directory import CONFIG
from offpol.record.run_keys import GAME, INCIDENTAL

if TYPE_CHECKING:
    from offpol.record.run_results import RunResult

AGENT = "offpol.agent.Agent"

# The sections of the config, and what each part is handed beside its yaml.
SECTIONS = {
    "env": ("num_envs", "seed"),
    "behavior": ("first_stream", "num_streams"),
    "replay": ("spec", "window", "seed", "run_directory", "device"),
    "network": ("spec", "outputs"),
    "critic": (),
    "policy": (),
    "trace": (),
    "topology": (),
    "agent": ("build_network", "critic", "policy", "trace", "device", "actor_device", "autocast"),
    "run": (),
}


def check_config(cfg: Mapping[str, Any]) -> None:
    """Check every value of a resolved config against the part that takes it; raise ConfigError."""
    words = (*SECTIONS, "seed")
    for name in cfg:
        if name not in words:
            hint = did_you_mean(name, words) or f": a config has {', '.join(words)}."
            raise ConfigError(f"There is no key '{name}'{hint}")
    for name in words:
        if name not in cfg:
            raise ConfigError(
                f"The config has no '{name}', which every run needs: leave out ~{name}, or put it into the yaml that "
                "lacks it."
            )
    for name, runtime in SECTIONS.items():
        check(cfg[name], runtime, name)
    if coerce(cfg["seed"], int, "seed") < 0:  # type: ignore[operator]
        raise ConfigError(f"seed is {cfg['seed']}, but must not be negative.")
    _check_offline(cfg)
    if "capacity" in cfg["replay"]:  # in rows, as far as yaml tells; the built replay is asked again
        check_together(cfg, cfg["replay"]["capacity"])


def check_together(cfg: Mapping[str, Any], capacity_rows: int) -> None:
    """Refuse combinations that could never learn, given the replay's capacity; raise ConfigError with the reason."""
    batch, envs, window = cfg["agent"]["batch_size"], cfg["run"]["num_envs"], cfg["agent"]["window"]
    workers = cfg["topology"].get("num_workers", 1)
    if workers < 1 or envs % workers:
        raise ConfigError(
            f"topology.num_workers is {workers}, but must be a divisor of run.num_envs ({envs}): each worker steps as "
            "many of them."
        )
    _check_processes(cfg)
    windows = max(0, capacity_rows - envs * (window + 2))  # two rows of each for an episode's end and a cut stream
    if batch > windows:
        raise ConfigError(
            f"agent.batch_size is {batch}, but a replay of {capacity_rows} rows in {envs} streams may hold no more "
            f"than {windows} windows of {window} transitions: raise replay.capacity or lower the batch."
        )
    first, starts, ends = envs * (window + 1), cfg["run"]["learning_starts_agent_steps"], cfg["run"]["agent_steps"]
    if starts < first and cfg["run"]["replay_ratio"] > 0:
        raise ConfigError(
            f"run.learning_starts_agent_steps is {starts}, but {envs} envs hold a whole window of {window} transitions "
            f"only after {first} agent steps: start no sooner."
        )
    if starts >= ends >= 1 and cfg["run"]["replay_ratio"] > 0:
        raise ConfigError(
            f"run.learning_starts_agent_steps is {starts} and run.agent_steps {ends}, so this run would never learn: "
            "start sooner, play longer, or only play with run.replay_ratio=0."
        )


def _check_offline(cfg: Mapping[str, Any]) -> None:
    """Refuse the stored data of another game."""
    stored = _stored(cfg)
    if stored and stored.game != (own := game_of(cfg)):
        raise ConfigError(
            f"replay.offline={stored.directory} is a run of {stored.game}, but this one plays {own}: use data of the "
            "same env."
        )


def gathered_otherwise(cfg: Mapping[str, Any]) -> list[str]:
    """List what the env of a run whose rows are replayed had otherwise than this one's, as key=value."""
    stored, ours = _stored(cfg), dict(flatten(cfg["env"], "env."))
    theirs = dict(flatten(stored.cfg["env"], "env.")) if stored else {}
    keys = (ours.keys() & theirs.keys()) - INCIDENTAL - GAME
    return [f"{key}={theirs[key]}" for key in sorted(keys) if theirs[key] != ours[key]]


def _stored(cfg: Mapping[str, Any]) -> RunResult | None:
    """Read the run whose rows are replayed, where there is one that says what it is."""
    source = cfg["replay"].get("offline")
    if not isinstance(source, str) or not (Path(source) / CONFIG).is_file():
        return None
    from offpol.record.run_results import read_run

    return read_run(Path(source))


def _check_processes(cfg: Mapping[str, Any]) -> None:
    """Refuse what cannot be learned by several processes, where torchrun started several."""
    batch = cfg["agent"]["batch_size"]
    if processes.world_size() > 1 and cfg["agent"]["_target_"] != AGENT:
        raise ConfigError(
            f"agent._target_ is {cfg['agent']['_target_']}, but processes that torchrun started learn together by "
            f"{AGENT} alone: start one process, or leave the agent as it is."
        )
    if batch % processes.world_size():
        raise ConfigError(
            f"agent.batch_size is {batch}, but must be a multiple of {processes.world_size()}: each of the processes "
            "that torchrun started takes an equal share of a batch."
        )
    if processes.world_size() > 1 and (cfg["run"]["compile"] or cfg["run"]["cuda_graph"]):
        raise ConfigError("run.compile and run.cuda_graph are for one process: turn them off to learn in several.")
