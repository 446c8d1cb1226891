"""offpol from Python: what the command line composes, trains and leaves behind, as four functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from offpol.agent import Agent
from offpol.assembly import build_env, build_replay, run_spec, usable_device
from offpol.checks import check_config
from offpol.cli import command_line
from offpol.cli.saved_config import load_saved
from offpol.config import as_yaml
from offpol.errors import ConfigError
from offpol.evaluate import load_agent
from offpol.record.checkpoint import load_newest
from offpol.record.run_directory import CHECKPOINTS, require_new
from offpol.training import train as train_in
from offpol.types import Env, Replay


def compose(*overrides: str, config_dir: str | None = None) -> dict[str, Any]:
    """Return the config that `offpol OVERRIDES` would train, a nested dict to be changed at will.

    Args:
        overrides: as on the command line, "task=chain".
        config_dir: a folder of further yaml.

    Raises ConfigError, in a sentence, for whatever does not compose.
    """
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(f"{override} is a flag of the command line: give overrides alone, as in task=chain.")
    return command_line.composed(overrides, config_dir)


def train(cfg: dict[str, Any], directory: str | Path) -> float | None:
    """Train in a new folder; return the mean return of the final evaluation, None without one.

    A class of a notebook is named `__main__.Mine` as a `_target_`. Call it in the main thread: Ctrl-C saves the run
    there and raises SystemExit. An env that hangs (topology.deadline_s) ends the process.

    Raises ConfigError for a wrong value, and for a folder that holds something.
    """
    cfg = as_yaml(cfg)
    check_config(cfg)
    require_new(Path(directory))
    return train_in(cfg, Path(directory))


class Trained(NamedTuple):
    """An agent that was trained, and envs as those it was trained in."""

    env: Env
    agent: Agent


def load(directory: str | Path, num_envs: int = 1, device: str | None = None) -> Trained:
    """Build the agent of a run's newest whole checkpoint, and `num_envs` envs, on random numbers of their own.

    It computes on `device`, or where the run did.
    `agent.values(torch.from_numpy(env.reset()))` returns Q(s, .) and pi(.|s), both [num_envs, A].
    Raises ConfigError where there is no run, or none with a checkpoint.
    """
    cfg = load_saved(Path(directory), device)
    check_config(cfg)
    agent = load_agent(cfg, Path(directory)).agent
    agent.acting_network.train(False)  # no noise in noisy layers
    return Trained(build_env(cfg, num_envs, "python"), agent)


def load_replay(directory: str | Path, device: str | None = None) -> Replay:
    """Build the replay of a run's newest whole checkpoint; it draws what the run would have drawn next.

    `replay.sample(batch_size)` returns a `Batch`, of which `agent.trace_inputs(batch)` makes what trace operators read.
    It lies in memory of this process (`on_device`: on `device`, or where the run had it), and the run keeps its own.
    Raises ConfigError where there is no run, or none with a checkpoint, or no such device.
    """
    cfg = load_saved(Path(directory), device)
    check_config(cfg)
    found = load_newest(Path(directory) / CHECKPOINTS, only=["replay"])
    replay = build_replay(cfg, run_spec(cfg), Path(directory), str(usable_device(cfg["run"]["device"], "device")))
    replay.load_state_dict(found.state["replay"])
    return replay
