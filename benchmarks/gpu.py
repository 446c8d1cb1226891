"""What offpol makes of a GPU: in some ten minutes a table for each question, and JSON.

    python benchmarks/gpu.py --out gpu.json                  # all of it
    python benchmarks/gpu.py --only updates acting           # some of it
    python benchmarks/gpu.py --only updates --work "DQN, Nature, batch 32"
    python benchmarks/gpu.py --only updates --modes "step by step" graph --seconds 2    # nothing compiled: two minutes
    python benchmarks/gpu.py --only runs --job run.compile=true topology=threads       # whole runs, of another kind
    python benchmarks/gpu.py --device cpu --quick            # that the script works, on any machine; means nothing else

`same`: is an update recorded or compiled the update done step by step, from the same seeds? `updates`: updates a
second, drawing and prioritizing included, and the share of the time that the GPU computes; "bare" is what networks and
optimizer alone would do as a graph, the floor of it. `kernels`: what an update's time goes to. `acting`: an actor's
question, from host to host. `replay`: adding, drawing and prioritizing alone, on the device and on the host. `runs`:
Atari 100k by the command line, one run alone and several side by side. Rows are random; only `runs` plays a game.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from offpol.agent import Agent, discounts
from offpol.assembly import build_agent
from offpol.cli.command_line import VERSION_BASE, plain
from offpol.config import build, conf_dir
from offpol.cuda_graphs import Recorder
from offpol.n_step_transitions import join_batch
from offpol.transfer import upload
from offpol.types import EnvSpec, Rows
from offpol.whole_update import compile_or_record

Row = dict[str, Any]  # of a table
ENVS, ACTIONS = 8, 6
SPEC = EnvSpec("random", ENVS, ACTIONS, (84, 84), torch.uint8, stack=4)
MODES = {
    "step by step": {}, "graph": {"cuda_graph": True}, "compiled": {"compile": True},
    "compiled graph": {"compile": True, "cuda_graph": True},
}  # fmt: skip
DQN = ["policy=greedy", "trace=one_step", "critic=scalar", "agent.window=1"]
WORK = {
    "DQN, Nature, batch 32": ["network=nature", *DQN],
    "default agent, batch 32": [],
    "default agent, Impala, batch 256": ["network=impala", "agent.batch_size=256"],
}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rows: int  # in the replay
    same_updates: int
    seconds: float  # of each measurement
    modes: tuple[str, ...]
    work: tuple[str, ...]
    autocast: tuple[str, ...]
    envs: tuple[int, ...]  # of an actor
    job: tuple[str, ...]  # what is run


FULL = Scale(
    20_000, 8, 4.0, tuple(MODES), tuple(WORK), ("none", "bfloat16"), (8, 64, 256),
    ("env.game=Pong", "run.agent_steps=100000", "run.replay_ratio=1", "run.eval_episodes=0", "run.torch_threads=1"),
)  # fmt: skip
QUICK = Scale(
    600, 3, 0.01, ("step by step",), ("DQN, Nature, batch 32",), ("none",), (8,),
    ("task=chain", "run.agent_steps=700", "run.learning_starts_agent_steps=600", "run.eval_episodes=0"),
)  # fmt: skip


def settings(overrides: Sequence[str], device: str, autocast: str = "none") -> dict[str, Any]:
    """Compose the config of a run on a device."""
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        cfg = compose("config", overrides=[*overrides, f"run.device={device}", f"run.autocast={autocast}"])
    return plain(cfg)


def rows(seed: int) -> Iterator[Rows]:
    """Make rows of random frames, without end."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (64, ENVS, 84, 84), dtype=np.uint8)
    log_prob = np.full(ENVS, -np.log(ACTIONS), np.float32)
    for step in range(10**9):
        yield Rows(
            obs=frames[step % 64], action=rng.integers(ACTIONS, size=ENVS), valid=np.ones(ENVS, bool),
            reward=rng.integers(-1, 2, ENVS).astype(np.float32), terminated=rng.random(ENVS) < 0.005,
            truncated=np.zeros(ENVS, bool), behavior_log_prob=log_prob, policy_version=np.full(ENVS, step),
        )  # fmt: skip


def parts(overrides: Sequence[str], device: str, mode: str, number: int, autocast: str = "none") -> tuple[Agent, Any]:
    """Build an agent and its replay on the device, with so many rows, from fixed seeds."""
    gc.collect()  # agents hold on to themselves by their graphs
    cfg = settings([*overrides, "replay=on_device", f"replay.capacity={2 * number}"], device, autocast)
    torch.manual_seed(0)
    agent = build_agent(cfg, SPEC)
    replay = build(cfg["replay"], "replay", spec=SPEC, window=cfg["agent"]["window"], seed=0, device=str(agent.device))
    for _, row in zip(range(number // ENVS), rows(0), strict=False):
        replay.add(row)
    compile_or_record(agent, replay, **({"compile": False, "cuda_graph": False} | MODES.get(mode, {})))
    return agent, replay


def update(agent: Agent, replay: Any) -> None:
    """Do what `offpol.learning.learn` does for one update."""
    if agent.whole_update is not None:
        agent.whole_update(measure=False)
        return
    batch = replay.sample(agent.batch_size)
    answer = agent.update(batch)
    replay.update_priorities(batch.index, batch.generation, answer.priority)


def wait(device: str) -> None:
    """Wait until the device has done all it was asked for."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def seconds_each(call: Callable[[], object], seconds: float, device: str) -> float:
    """Time a call, done again and again for so long; the device's work is waited for at the end."""
    times, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(10 if device != "cpu" else 1):
            call()
            times += 1
        wait(device)
    return (time.perf_counter() - began) / times


def kernels_of(call: Callable[[], object], device: str, times: int = 30) -> list[tuple[str, float, float]]:
    """Return the kernels of one call, the longest first: name, how often, and microseconds of all of them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(times):
            call()
        wait(device)
    events = [event for event in profile.key_averages() if event.self_device_time_total]
    found = [(event.key, event.count / times, event.self_device_time_total / times) for event in events]
    return sorted(found, key=lambda kernel: -kernel[2])


def bare(agent: Agent, replay: Any) -> Callable[[], object]:
    """Return what networks and optimizer do in an update, on a batch that stays the same: the floor of it."""
    batch = replay.sample(agent.batch_size)
    if agent.joins_steps:
        batch, _ = join_batch(batch, discounts(batch, agent.gamma))
    obs = batch.obs.transpose(0, 1).flatten(0, 1).clone(memory_format=torch.preserve_format)
    rows, spared = agent.train_positions * len(batch), len(batch) if agent.policy.reads_rows == "next" else 0

    def work(obs: Tensor) -> Tensor:
        agent.optimizer.zero_grad(set_to_none=True)
        floats = obs.float()
        with torch.no_grad():
            agent.forward(agent.target_network, floats[spared:])
            if agent.policy.double:
                agent.forward(agent.network, floats[rows:])
        output = agent.forward(agent.network, floats[:rows])
        loss = output.q_logits.mean() + (output.policy_logits.mean() if agent.policy.learned else 0)
        loss.backward()
        agent.optimizer.step()
        return loss

    return partial(work if agent.device.type == "cpu" else Recorder(work, agent.device), obs)


# ------------------------------------------------------------------------------------------- questions


def same(scale: Scale, device: str) -> Iterator[Row]:
    """Compare parameters and priorities after some updates with those of updates done step by step.

    Rounding may move a draw to another window sooner or later, so few updates are compared, past those a graph does
    before it is recorded; what "step by step" differs by from itself is what a GPU's own order of adding up makes.
    """
    first = None
    for mode in ("step by step", *scale.modes):
        agent, replay = parts(WORK["default agent, batch 32"], device, mode, scale.rows)
        for _ in range(scale.same_updates):
            update(agent, replay)
        parameters = torch.cat([parameter.detach().flatten() for parameter in agent.parameters])
        here = parameters, replay.sums.masses.clone()
        first = first or here
        pairs = zip(here, first, strict=True)
        apart = [(one - other).abs().max() / other.abs().max() for one, other in pairs]
        yield {
            "mode": mode, "updates": agent.updates, "parameters apart": f"{float(apart[0]):.1e}",
            "priorities apart": f"{float(apart[1]):.1e}", "same": bool(max(apart) < 1e-2),
        }  # fmt: skip


def updates(scale: Scale, device: str) -> Iterator[Row]:
    """Measure updates per second and the share of the time that the device computes."""
    for work in scale.work:
        for mode in ("bare", *scale.modes):
            for autocast in scale.autocast:
                agent, replay = parts(WORK[work], device, mode, scale.rows, autocast)
                call = bare(agent, replay) if mode == "bare" else partial(update, agent, replay)
                began = time.perf_counter()
                for _ in range(5):
                    call()
                wait(device)
                first = time.perf_counter() - began
                each = seconds_each(call, scale.seconds, device)
                answer = {
                    "work": work, "mode": mode, "autocast": autocast, "updates/s": round(1 / each, 1), "kernels": None,
                    "busy": None, "first 5 updates, s": round(first, 1),
                }  # fmt: skip
                if device != "cpu":
                    found = kernels_of(call, device)
                    answer["kernels"] = round(sum(often for _, often, _ in found), 1)
                    answer["busy"] = f"{sum(took for _, _, took in found) / 1e6 / each:.0%}"
                yield answer


def kernels(scale: Scale, device: str) -> Iterator[Row]:
    """Name the kernels that updates spend their time in."""
    for work in scale.work if device != "cpu" else ():
        for mode in scale.modes:
            agent, replay = parts(WORK[work], device, mode, scale.rows)
            for _ in range(5):
                update(agent, replay)
            for name, often, took in kernels_of(partial(update, agent, replay), device)[:40]:
                yield {
                    "work": work, "mode": mode, "kernel": name[:110], "in an update": round(often, 1),
                    "us an update": round(took, 1),
                }  # fmt: skip


def acting(scale: Scale, device: str) -> Iterator[Row]:
    """Measure how long an actor waits for values of E observations."""
    for network in ("data_efficient", "nature", "impala"):
        for mode in [mode for mode in scale.modes if "compiled" not in mode]:
            agent, _ = parts([f"network={network}"], device, mode, scale.rows)
            answer: Row = {"network": network, "mode": mode}
            for envs in scale.envs:
                obs = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (envs, 4, 84, 84), dtype=np.uint8))
                for _ in range(5):
                    agent.values(obs)
                each = seconds_each(lambda: agent.values(obs), scale.seconds / 4, device)  # noqa: B023
                answer[f"{envs} envs, us"] = round(each * 1e6)
            yield answer


def replay(scale: Scale, device: str) -> Iterator[Row]:
    """Measure replay alone; what the host draws is sent to the device."""
    for kind in ("on_device", "prioritized"):
        for size in (32, 256):
            cfg = settings([f"replay={kind}", f"replay.capacity={2 * scale.rows}"], device)
            memory = build(cfg["replay"], "replay", spec=SPEC, window=5, seed=0, device=device, run_directory=".")
            source = rows(0)
            for _ in range(scale.rows // ENVS):
                memory.add(next(source))

            def sample() -> Any:
                batch = memory.sample(size)  # noqa: B023
                return batch if device == "cpu" else batch.apply(lambda part: upload(part, torch.device(device)))

            batch = sample()
            priority = torch.rand(size, device=device)
            calls: dict[str, Callable[[], object]] = {
                f"add {ENVS}, us": lambda: memory.add(next(source)),  # noqa: B023
                "draw, us": sample,
                "prioritize, us": lambda: memory.update_priorities(batch.index, batch.generation, priority),  # noqa: B023
            }
            timings = {name: round(seconds_each(call, scale.seconds / 4, device) * 1e6) for name, call in calls.items()}
            yield {"replay": kind, "batch of windows": size, **timings}


def runs(scale: Scale, device: str, together: int) -> Iterator[Row]:
    """Time whole runs from the command line, one alone and then several at once."""
    fast = [] if device == "cpu" else ["run.cuda_graph=true"]
    command = [sys.executable, "-m", "offpol.main", *scale.job, f"run.device={device}", "replay=on_device", *fast]
    for number in dict.fromkeys((1, together)):
        with tempfile.TemporaryDirectory() as folder:
            places = [Path(folder) / str(k) for k in range(number)]
            began = time.perf_counter()
            children = [
                subprocess.Popen([*command, f"seed={k}", f"hydra.run.dir={place}"], stdout=subprocess.DEVNULL)
                for k, place in enumerate(places)
            ]
            codes = [child.wait() for child in children]
            took = time.perf_counter() - began
            if any(codes):
                raise SystemExit(f"a run ended with exit code {max(codes)}: {' '.join(command)}")
            last = [json.loads((place / "metrics.jsonl").read_text().splitlines()[-1]) for place in places]
        yield {
            "runs at once": number, "agent steps each": last[0]["agent_steps"], "all done after, s": round(took, 1),
            "updates/s each": round(float(np.mean([row["machine/updates_per_s"] for row in last])), 1),
        }  # fmt: skip


# ---------------------------------------------------------------------------------------------- output


def table(answers: list[Row]) -> str:
    """Lay out answers as a table in Markdown."""
    if not answers:
        return "nothing to tell here"
    names = list(answers[0])
    lines = [names, ["---"] * len(names), *([str(answer[name]) for name in names] for answer in answers)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Scale]:
    """Read the command line; return it, and how much is to be measured."""
    questions = ("same", "updates", "kernels", "acting", "replay", "runs")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu, with --quick (cuda)")
    parser.add_argument("--quick", action="store_true", help="the least of everything: does the script work?")
    parser.add_argument("--only", nargs="+", choices=questions, default=questions, help="some questions")
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), help="some ways to update (all)")
    parser.add_argument("--work", nargs="+", choices=tuple(WORK), help="some updates (all)")
    parser.add_argument("--autocast", nargs="+", choices=FULL.autocast, help="what networks compute in (both)")
    parser.add_argument("--seconds", type=float, default=FULL.seconds, help="of each measurement (%(default)s)")
    parser.add_argument("--agent-steps", type=int, help="of each run, of which 1600 are not learned from (100000)")
    parser.add_argument("--together", type=int, default=8, help="runs side by side (8)")
    parser.add_argument("--job", nargs="+", default=(), metavar="KEY=VALUE", help="more of what each run is told")
    parser.add_argument("--out", type=Path, help="also write everything to this JSON file")
    args = parser.parse_args(arguments)
    if args.quick and (args.modes or args.work or args.autocast or args.job):
        parser.error("--quick measures the least there is: leave --modes, --work, --autocast and --job out")
    if args.device == "cpu" and not args.quick:
        parser.error("on a CPU only --quick makes sense")
    if args.device != "cpu" and (torch.device(args.device).index or 0) >= torch.cuda.device_count():
        parser.error(f"there is no {args.device} here, or this torch was built without CUDA")
    steps = (f"run.agent_steps={args.agent_steps}",) if args.agent_steps else ()
    scale = QUICK if args.quick else replace(
        FULL, modes=tuple(args.modes or MODES), work=tuple(args.work or WORK), seconds=args.seconds,
        autocast=tuple(args.autocast or FULL.autocast), job=(*FULL.job, *steps, *args.job),
    )  # fmt: skip
    return args, scale


def main(arguments: Sequence[str] | None = None) -> None:
    args, scale = parse(arguments)
    name = args.device if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    everything: dict[str, Any] = {"device": name, "torch": torch.__version__}
    print(f"{name}, torch {torch.__version__}")
    ask: dict[str, Callable[[Scale, str], Iterator[Row]]] = {
        "same": same, "updates": updates, "kernels": kernels, "acting": acting, "replay": replay,
        "runs": partial(runs, together=args.together),
    }  # fmt: skip
    for question in args.only:
        everything[question] = []
        for row in ask[question](scale, args.device):
            print(row, file=sys.stderr, flush=True)
            everything[question].append(row)
            if args.out:  # at once: a compiler may take longer than one has the GPU
                args.out.write_text(json.dumps(everything, indent=2))
        print(f"\n{question}\n\n{table(everything[question])}", flush=True)


if __name__ == "__main__":
    main()
