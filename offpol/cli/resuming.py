"""Which run goes on, and what of it may change then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from offpol.cli.mistakes import dotted_keys, no_such_key
from offpol.errors import ConfigError
from offpol.record.identity import flatten, located
from offpol.record.renamed import current
from offpol.record.run_directory import CONFIG
from offpol.record.run_keys import RESUMABLE

COMPOSED = ("experiment", "task", "recipe", "hydra")  # what a command line has and a saved config no longer


def split_resume(arguments: list[str]) -> tuple[Path, list[str]]:
    """Take resume=RUN_DIR out of the arguments; the path is meant as it stands, whatever characters it has."""
    word = next(argument for argument in arguments if argument.startswith("resume="))
    path = word.removeprefix("resume=")
    if path[:1] in ("'", '"') and path[:1] == path[-1:]:
        path = path[1:-1]
    if not path:
        raise ConfigError("resume= needs the folder of a run: resume=RUN_DIR.")
    rest = [argument for argument in arguments if argument is not word]
    for argument in rest:
        if argument.startswith(("-", "resume=")):
            raise ConfigError(f"One run goes on at a time, without flags: resume=RUN_DIR cannot go with {argument}.")
    return Path(path), rest


def require_unedited(cfg: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Refuse a config that is no longer what the run began with, as its info.json has it, but for what may change."""
    if "config" not in info:  # a run from before it was kept
        return
    begun, now = dict(flatten(current(info["config"]))), dict(flatten(cfg))
    differing = [
        f"{key} (was {begun.get(key)!r})"
        for key in sorted(begun.keys() | now.keys())
        if key not in RESUMABLE and begun.get(key) != now.get(key)
    ]
    if differing:
        raise ConfigError(
            f"{CONFIG} of the run was changed by hand since it began, and a run goes on as it began: put back "
            f"{', '.join(differing)}, or begin a new one with it by --config-path and --config-name."
        )


def resumed_config(cfg: dict[str, Any], asked: Mapping[str, object]) -> dict[str, object]:
    """Set in a saved config what may change, return that; refuse what would make it another run."""
    saved, known = OmegaConf.create(cfg), [*dotted_keys(cfg)]
    if isinstance(source := asked.get("replay.offline"), str):
        asked = {**asked, "replay.offline": located(source)}
    for key in asked:
        if key not in known and key.partition(".")[0] not in COMPOSED:
            raise ConfigError(no_such_key(key, known))
    differing = {key: value for key, value in asked.items() if OmegaConf.select(saved, key) != value}
    refused = {key: _as_it_was(saved, key) for key in differing if key not in RESUMABLE}
    if refused and not any(refused.values()):  # groups alone: who says them again may mean the same
        raise ConfigError(f"A run goes on with the parts that it began with: leave out {', '.join(refused)}.")
    if refused:
        changes = ", ".join(key + was for key, was in refused.items())
        raise ConfigError(f"A run goes on as it began; a new one is needed to change {changes}.")
    for key, value in differing.items():
        section, _, name = key.partition(".")
        cfg[section][name] = value
    return differing


def require_not_shorter(cfg: Mapping[str, Any], played: int) -> None:
    """Refuse a length, in agent steps, that a run has passed: reports would take it for another run."""
    steps = cfg["run"]["agent_steps"]
    if isinstance(steps, int | float) and steps < played:
        raise ConfigError(
            f"run.agent_steps is {steps}, but the run has played {played} agent steps: leave it out, or play longer."
        )


def _as_it_was(saved: DictConfig, key: str) -> str:
    value = OmegaConf.select(saved, key)
    nameless = isinstance(value, DictConfig) or key.partition(".")[0] in COMPOSED
    return "" if nameless else f" (was {value!r})"
