"""Would K seeds in one process, their parameters stacked, learn faster than one by one?

    python benchmarks/stacked_seeds.py                 # CartPole's and MinAtar's networks, one thread
    python benchmarks/stacked_seeds.py --seeds 8 16

The bare update of the default agent (target network's forward pass over the window, online network's forward and
backward pass, AdamW) for K seeds one after the other, and for all K at once: `torch.func.vmap` over stacked parameters,
and one optimizer over the stacks. Also the whole update of one agent, K times: what sweeps pay now. Processor
milliseconds for K seeds, medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from offpol import cpu
from offpol.agent import Agent
from offpol.assembly import build_parts
from offpol.cli import command_line
from offpol.record import provenance
from offpol.types import Batch


def learner(task: str, folder: Path) -> tuple[Agent, Batch]:
    """Build the default agent of a task and draw a batch of its replay, both ready to learn."""
    cfg = command_line.plain(next(command_line.compositions(command_line.parse([f"task={task}"]))))
    parts = build_parts(cfg, folder)
    actor = parts.actors.build(parts.agent.values)
    for step in range(200):
        rows, _ = actor.step(actor.act(8 * step, 0))
        parts.replay.add(rows)
    actor.close()
    batch = parts.replay.sample(parts.agent.batch_size)
    for _ in range(20):
        parts.agent.update(batch)
    return parts.agent, batch


def loss_of(network: nn.Module, parameters: dict[str, Tensor], obs: Tensor) -> Tensor:
    output = functional_call(network, parameters, (obs,))
    return output.q_logits.mean() + output.policy_logits.mean()


class Stacked:
    """The bare update of K networks at once."""

    def __init__(self, agent: Agent, seeds: int, obs: Tensor, rows: int) -> None:
        online, _ = stack_module_state([copy.deepcopy(agent.network) for _ in range(seeds)])  # type: ignore[arg-type]
        self.online = {name: tensor.detach().requires_grad_() for name, tensor in online.items()}
        self.target = {name: tensor.detach().clone() for name, tensor in online.items()}
        self.network = copy.deepcopy(agent.network).to("meta")
        self.obs, self.rows = obs.expand(seeds, *obs.shape).clone(), rows
        self.optimizer = torch.optim.AdamW(self.online.values(), lr=1e-4, fused=True)
        self.forward = vmap(lambda parameters, obs: functional_call(self.network, parameters, (obs,)).q_logits)
        self.loss = vmap(lambda parameters, obs: loss_of(self.network, parameters, obs))

    def __call__(self) -> None:
        with torch.no_grad():
            self.forward(self.target, self.obs[:, self.rows :])
        self.optimizer.zero_grad()
        self.loss(self.online, self.obs[:, : self.rows]).sum().backward()
        self.optimizer.step()


def bare(agent: Agent, obs: Tensor, rows: int) -> None:
    """The bare update of one network."""
    with torch.no_grad():
        agent.target_network(obs[rows:])
    agent.optimizer.zero_grad()
    output = agent.network(obs[:rows])
    (output.q_logits.mean() + output.policy_logits.mean()).backward()
    agent.optimizer.step()


def milliseconds(call: Callable[[], object], times: int) -> float:
    """Processor time of one call."""
    began = time.process_time()
    for _ in range(times):
        call()
    return 1000 * (time.process_time() - began) / times


def measure(task: str, seeds: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    agent, batch = learner(task, folder)
    rows = agent.train_positions * len(batch)
    obs = agent._floats(batch.obs.transpose(0, 1).flatten(0, 1)).clone(memory_format=torch.preserve_format)
    stacked = Stacked(agent, seeds, obs, rows)
    calls = {
        "whole, one by one": lambda: [agent.update(batch) for _ in range(seeds)],
        "bare, one by one": lambda: [bare(agent, obs, rows) for _ in range(seeds)],
        "bare, stacked": stacked,
    }
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            measured[name].append(milliseconds(call, 10))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=["cartpole", "minatar"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[4, 8])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="also write everything measured to this JSON file")
    arguments = parser.parse_args()
    cpu.set_up(1)
    results = {}
    for task in arguments.tasks:
        for seeds in arguments.seeds:
            with tempfile.TemporaryDirectory() as folder:
                results[f"{task}, {seeds} seeds"] = measure(task, seeds, arguments.rounds, Path(folder))
    first = next(iter(results.values()))
    print(f"| processor ms | {' | '.join(first)} | stacking the bare work saves |\n|---|{'---|' * (len(first) + 1)}")
    for name, measured in results.items():
        alone, together = measured["bare, one by one"], measured["bare, stacked"]
        gain = median(a / b for a, b in zip(alone, together, strict=True))
        print(f"| {name} | {' | '.join(f'{median(v):.2f}' for v in measured.values())} | {gain:.2f}x |")
    if arguments.out:
        arguments.out.write_text(json.dumps({"about": provenance.describe(0), "rounds": results}, indent=1))


if __name__ == "__main__":
    main()
