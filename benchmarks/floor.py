"""The floor of a job, and how close a run comes to it: env steps, networks and optimizer alone, against all of it.

    python benchmarks/floor.py                                  # the default job, one thread
    python benchmarks/floor.py task=minatar --out floor.json    # any overrides of `offpol`

Real learning (`topology=sync`, logs included, checkpoints left out) stops every so many updates, and the same number of
env steps, acting passes and bare updates is done by themselves: on copies, with random actions and a batch that is
always the same. A bare update is the target network's forward pass over the rows the agent needs, the online network's
forward and backward pass, and the optimizer. Both are processor time, interleaved in rounds in one process: medians and
ranges. The environment variable OMP_NUM_THREADS=1 keeps other libraries from starting threads.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from offpol import cpu
from offpol.agent import Agent, discounts
from offpol.assembly import build_agent, build_env, build_parts
from offpol.checks import check_config
from offpol.cli import command_line
from offpol.config import build
from offpol.n_step_transitions import join_batch
from offpol.record import provenance
from offpol.run import Run
from offpol.types import Batch, StateDict

PARTS = ("env", "acting", "target forward", "online forward and backward", "optimizer")


class Floor:
    """The bare work of a job, in processor seconds by part."""

    def __init__(self, cfg: dict) -> None:
        self.env = build_env(cfg, cfg["run"]["num_envs"], "floor")
        self.obs = torch.from_numpy(self.env.reset())
        self.agent: Agent = build_agent(cfg, self.env.spec)
        self.rng = np.random.default_rng(0)
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def timed(self, name: str, work: Callable[[], object]) -> None:
        began = time.process_time()
        work()
        self.seconds[name] += time.process_time() - began

    def do(self, env_steps: int, updates: int, batch: Batch) -> dict[str, float]:
        """Do so many steps of all envs, acting passes and updates; return what each part took."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        agent, spec = self.agent, self.env.spec
        if agent.joins_steps:
            batch, _ = join_batch(batch, discounts(batch, agent.gamma))
        obs = batch.obs.transpose(0, 1).flatten(0, 1).clone(memory_format=torch.preserve_format)
        obs = agent._floats(obs).clone(memory_format=torch.preserve_format)
        trained = agent.train_positions * len(batch)
        spared = len(batch) if agent.policy.reads_rows == "next" else 0
        for _ in range(env_steps):
            with torch.inference_mode():
                self.timed("acting", lambda: agent.forward(agent.network, self.obs.float()))
            actions = self.rng.integers(spec.num_actions, size=spec.num_envs)
            self.timed("env", lambda actions=actions: self.env.step(actions))
        for _ in range(updates):
            with torch.no_grad():
                self.timed("target forward", lambda: agent.forward(agent.target_network, obs[spared:]))
                if agent.policy.double:
                    self.timed("target forward", lambda: agent.forward(agent.network, obs[trained:]))
            self.timed("online forward and backward", lambda: self._gradient(obs[:trained]))
            self.timed("optimizer", agent.optimizer.step)
        return dict(self.seconds)

    def _gradient(self, obs: torch.Tensor) -> None:
        for parameter in self.agent.parameters:
            parameter.grad = None
        output = self.agent.forward(self.agent.network, obs)
        loss = output.q_logits.mean()
        (loss + output.policy_logits.mean() if self.agent.policy.learned else loss).backward()


class Stopped(Run):
    """A run that stops every so many updates to let the floor be measured."""

    def prepare(self, floor: Floor, replay: object, batch_size: int, every_updates: int) -> None:
        self.floor, self.replay, self.batch_size, self.every = floor, replay, batch_size, every_updates
        self.rounds: list[dict] = []
        self.before = (0, 0, 0.0)

    def after_step(self, save: Callable[[], StateDict]) -> None:
        super().after_step(save)
        steps, updates, began = self.before
        if self.updates and not steps:  # learning has just begun
            self.before = (self.agent_steps, self.updates, time.process_time())
        elif steps and self.updates - updates >= self.every:
            whole = time.process_time() - began
            done = self.updates - updates
            env_steps = (self.agent_steps - steps) // self.config.num_envs
            parts = self.floor.do(env_steps, done, self.replay.sample(self.batch_size))
            self.rounds.append({"updates": done, "env_steps": env_steps, "whole_s": whole, "floor_s": parts})
            self.before = (self.agent_steps, self.updates, time.process_time())

    def save(self, save: Callable[[], StateDict]) -> None:
        """Leave checkpoints out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of `offpol`, as in task=minatar")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--updates", type=int, default=100, help="in a round")
    parser.add_argument("--keep-denormals", action="store_true", help="of numbers, which runs take for 0")
    parser.add_argument("--out", type=Path, help="also write everything measured to this JSON file")
    arguments = parser.parse_intermixed_args()
    cfg = command_line.plain(next(command_line.compositions(command_line.parse(arguments.overrides))))
    run = cfg["run"]
    updates = max(arguments.updates, math.ceil(run["num_envs"] * run["replay_ratio"]))  # those of a step of all envs
    run |= {"torch_threads": 1, "agent_steps": run["learning_starts_agent_steps"] + int(
        (arguments.rounds + 2) * updates / run["replay_ratio"])}  # fmt: skip
    check_config(cfg)
    cpu.set_up(1)
    torch.set_flush_denormal(not arguments.keep_denormals)
    with tempfile.TemporaryDirectory() as folder:
        parts = build_parts(cfg, Path(folder))
        with Stopped(Path(folder), build(run, "run"), title="floor", frames_per_agent_step=1, levels={}) as stopped:
            stopped.prepare(Floor(cfg), parts.replay, cfg["agent"]["batch_size"], arguments.updates)
            parts.topology.run(parts.actors, parts.agent, parts.replay, stopped)
    report(stopped.rounds)
    if arguments.out:
        about = provenance.describe(cfg["seed"])
        arguments.out.write_text(json.dumps({"about": about, "rounds": stopped.rounds}, indent=2))


def report(rounds: list[dict]) -> None:
    """Print milliseconds an update: by part, the floor, the whole, and what lies between."""

    def shown(values: list[float]) -> str:
        return f"{median(values):.3f} ({min(values):.3f}-{max(values):.3f})"

    per_update = [{name: 1000 * s / one["updates"] for name, s in one["floor_s"].items()} for one in rounds]
    floor = [sum(one.values()) for one in per_update]
    whole = [1000 * one["whole_s"] / one["updates"] for one in rounds]
    print("\n| processor ms an update | median (range) |\n|---|---|")
    for name in PARTS:
        print(f"| {name} | {shown([one[name] for one in per_update])} |")
    print(f"| floor | {shown(floor)} |\n| whole | {shown(whole)} |")
    print(f"| overhead | {shown([w - f for w, f in zip(whole, floor, strict=True)])} |")
    print(f"| floor / whole | {shown([f / w for w, f in zip(whole, floor, strict=True)])} |")


if __name__ == "__main__":
    main()
