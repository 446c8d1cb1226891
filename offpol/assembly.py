"""Parts from a config that checks.py has found right: built, and wired together."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from offpol import cpu, processes
from offpol.actor import Actor, Values
from offpol.agent import Agent
from offpol.checks import check_together
from offpol.combinations import check_parts
from offpol.config import build
from offpol.contracts.behaviors import check_behavior
from offpol.contracts.envs import check_env
from offpol.contracts.members import require_members
from offpol.contracts.networks import check_bfloat16, check_network, shown_observations
from offpol.contracts.replays import check_state
from offpol.deadline import answering
from offpol.ensemble import Networks
from offpol.errors import ConfigError
from offpol.layers import is_noisy
from offpol.seeding import seed_for, seed_globals
from offpol.types import Behavior, Critic, Env, EnvSpec, Network, Outputs, Policy, Replay, StateDict, Topology, Trace
from offpol.whole_update import compile_or_record

REPLAYED = 10  # so many times as long as to start, envs may take to play the actions of a checkpoint again


@dataclass(frozen=True)
class Actors:
    """Builds what acts, in this process or, sent there, in another: see `offpol.types.Actors`."""

    cfg: Mapping[str, Any]
    spec: EnvSpec

    def build(self, values: Values, restarts: int = 0, state: StateDict | None = None) -> Actor:
        actor = self._actor(values, 0, 1, restarts)
        if state is not None:
            with answering(patience_s(self.cfg), "play its saved actions again", REPLAYED):
                actor.load_state_dict(state)
        return actor

    def build_worker(self, worker: int, num_workers: int, restarts: int) -> tuple[Agent, Actor]:
        seed_globals(seed_for(self.cfg["seed"], "worker", worker + num_workers * restarts))
        run = {**self.cfg["run"], "device": "cpu", "actor_device": None}
        if self.cfg["run"]["device"] != "cpu":
            run["autocast"] = "none"  # slower on most CPUs
        agent = build_agent({**self.cfg, "run": run}, self.spec)
        return agent, self._actor(agent.values, worker, num_workers, restarts)

    def _actor(self, values: Values, worker: int, num_workers: int, restarts: int) -> Actor:
        share, index = self.spec.num_envs // num_workers, worker + num_workers * restarts
        behavior = build_behavior(self.cfg, worker * share, self.spec.num_envs)
        with answering(patience_s(self.cfg), "start"):
            env = build_env(self.cfg, share, "env", index)
            return Actor(env, behavior, values, seed=seed_for(self.cfg["seed"], "actor", index))


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of."""

    actors: Actors
    behavior: Behavior
    agent: Agent
    replay: Replay
    topology: Topology


def build_env(cfg: Mapping[str, Any], num_envs: int, stream: str, index: int = 0) -> Env:
    """Build `num_envs` envs on the stream of random numbers of that name and index."""
    env: Env = build(cfg["env"], "env", num_envs=num_envs, seed=seed_for(cfg["seed"], stream, index))
    return env


def env_spec(cfg: Mapping[str, Any], checked: bool = False) -> EnvSpec:
    """Describe one env of those that a config asks for; `checked`: if it is from outside offpol, play it first."""
    with answering(patience_s(cfg), "start and close"):
        env = build_env(cfg, 1, "env")
        require_members(env, Env)
        if checked and not cfg["env"]["_target_"].startswith("offpol."):
            check_env(env)
        env.close()
    return env.spec


def run_spec(cfg: Mapping[str, Any], checked: bool = False) -> EnvSpec:
    """Describe all envs of a run together, as `env_spec` does."""
    return replace(env_spec(cfg, checked), num_envs=cfg["run"]["num_envs"])


def patience_s(cfg: Mapping[str, Any]) -> float:
    """Return the seconds that a step of all envs may take."""
    return float(cfg["topology"].get("deadline_s", math.inf))


def build_behavior(cfg: Mapping[str, Any], first_stream: int, num_streams: int) -> Behavior:
    """Build how the streams from `first_stream` on explore, of all `num_streams`."""
    behavior: Behavior = build(cfg["behavior"], "behavior", first_stream=first_stream, num_streams=num_streams)
    require_members(behavior, Behavior)
    return behavior


def build_topology(cfg: Mapping[str, Any]) -> Topology:
    """Build who acts and who learns, when."""
    topology: Topology = build(cfg["topology"], "topology")
    require_members(topology, Topology)
    return topology


def build_agent(cfg: Mapping[str, Any], spec: EnvSpec) -> Agent:
    """Build the networks and what learns them, for observations and actions of `spec`."""
    critic = build(cfg["critic"], "critic")
    policy, trace = build(cfg["policy"], "policy"), build(cfg["trace"], "trace")
    for part, seam in ((critic, Critic), (policy, Policy), (trace, Trace)):
        require_members(part, seam)
    members = critic.num_critics if critic.separate_networks else 1
    outputs = Outputs(critic.initial_logits, critic.num_critics // members, policy.learned)

    run = cfg["run"]

    def build_network() -> Network:
        networks = [build(cfg["network"], "network", spec=spec, outputs=outputs) for _ in range(members)]
        return Networks(networks) if members > 1 else networks[0]

    node = dict(cfg["agent"])
    if processes.world_size() > 1:
        if getattr(trace, "reads_batch", False):
            raise ConfigError(
                f"trace: {type(trace).__name__} looks at the whole batch, of which each process of torchrun has but a "
                "share: take another trace, or one process."
            )
        node["_target_"] = "offpol.data_parallel.DataParallelAgent"
    agent: Agent = build(
        node, "agent", build_network=build_network, critic=critic, policy=policy, trace=trace,
        device=usable_device(processes.local_device(run["device"]), "device"),
        actor_device=usable_device(run["actor_device"], "actor_device"), autocast=run["autocast"],
    )  # fmt: skip
    return agent


@contextlib.contextmanager
def process_group(agent: Agent) -> Iterator[None]:
    """Learn together with the other processes that torchrun started, if any."""
    if processes.world_size() == 1:
        yield
        return
    with processes.joined(agent.device), contextlib.closing(cast(Any, agent)):
        yield


def serve_rank(cfg: Mapping[str, Any]) -> None:
    """Be one of the other processes: compute shares of updates until the first one, which acts and writes, is done."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the first process ends the run
        signal.signal(number, signal.SIG_IGN)
    cpu.set_up(cfg["run"]["torch_threads"])
    seed_globals(seed_for(cfg["seed"], "process", processes.rank()))
    agent: Any = build_agent(cfg, env_spec(cfg))
    with processes.joined(agent.device):
        agent.serve()


def build_parts(cfg: Mapping[str, Any], directory: Path) -> Parts:
    """Build what a run in `directory` is made of, from one root seed."""
    seed_globals(cfg["seed"])
    spec = run_spec(cfg, checked=True)
    topology = build_topology(cfg)
    behavior = build_behavior(cfg, 0, spec.num_envs)
    agent = build_agent(cfg, spec)
    needs_mu = any(getattr(part, "needs_mu", False) for part in (agent.trace, agent.policy))
    obs = shown_observations(spec, agent.device)
    try:
        check_behavior(behavior, spec.num_envs, spec.num_actions)
    except ValueError as error:
        raise ConfigError(f"behavior: {error}") from error
    try:
        check_network(agent.network, obs, spec.num_actions, agent.critic, needs_mu, agent.policy.learned)
        if agent.autocast == "bfloat16" and spec.dtype == torch.uint8:
            check_bfloat16(partial(agent.forward, agent.network), obs, type(agent.network).__name__)
    except ValueError as error:
        raise ConfigError(f"network: {error}") from error
    if is_noisy(agent.network) and getattr(topology, "acts_while_learning", False):
        raise ConfigError(
            "topology.max_policy_lag lets acting and learning draw noise at once, in an order that nothing fixes: "
            "noisy layers need topology=sync or topology.max_policy_lag=0."
        )
    replay = build_replay(cfg, spec, directory, str(agent.device))
    if needs_mu and not getattr(replay, "mu_known", True):
        raise ConfigError(
            f"replay.offline={cfg['replay']['offline']} does not say with which probabilities its actions were drawn, "
            "which the trace or the policy compares with: take a trace that does not (tree_backup, n_step, one_step, "
            "q_lambda, peng), and a policy that does not."
        )
    check_together(cfg, replay.capacity_rows)
    compile_or_record(agent, replay, compile=cfg["run"]["compile"], cuda_graph=cfg["run"]["cuda_graph"])
    return Parts(Actors(cfg, spec), behavior, agent, replay, topology)


def build_replay(cfg: Mapping[str, Any], spec: EnvSpec, directory: Path, device: str) -> Replay:
    """Build the replay of a run in `directory`, for the rows of all envs that `spec` counts."""
    replay: Replay = build(
        cfg["replay"], "replay", spec=spec, window=cfg["agent"]["window"], seed=seed_for(cfg["seed"], "replay"),
        run_directory=str(directory), device=device,
    )  # fmt: skip
    require_members(replay, Replay)
    if not cfg["replay"]["_target_"].startswith("offpol."):
        check_state(replay)
    return replay


def check_parts_of(cfg: Mapping[str, Any]) -> None:
    """Refuse what the parts of an agent say of their values, and of each other, without a network."""
    build_behavior(cfg, 0, cfg["run"]["num_envs"])
    build_topology(cfg)
    build(cfg["run"], "run")
    critic, policy, trace = (build(cfg[name], name) for name in ("critic", "policy", "trace"))
    try:
        check_parts(cast(Any, nn.Identity()), critic, policy, trace, cfg["agent"]["window"])
    except ValueError as error:
        raise ConfigError(f"agent: {error}") from error


def usable_device(name: str | None, key: str) -> str | None:
    """Return the full name of the device that `run.KEY` names, made ready; ConfigError where there is none."""
    if name is None:
        return None
    try:
        device = torch.empty(1, device=name).device  # cuda becomes cuda:0, the one there is
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigError(
            f"run.{key} is '{name}', which this machine or this torch does not have: cpu, or where there is a GPU "
            "cuda. (What looks at a run of another machine: --device cpu.)"
        ) from error
    if device.type == "cuda" and key == "device":
        torch.cuda.set_device(device)  # what names no device means this one
        torch.backends.cudnn.benchmark = True  # shapes never change
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it by default
    return str(device)
