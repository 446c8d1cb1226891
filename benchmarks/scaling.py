"""How cost grows: with rows in the replay, window, batch, actions, bins and envs; a table, a figure and JSON.

    python benchmarks/scaling.py --out runs/published/benchmarks      # scaling.json and scaling.png, some minutes

Processor milliseconds of one thread. One number is changed at a time, the others are those of `task=minatar` by the
default agent, on made-up observations and actions. The growth is the exponent p of cost ~ number^p between the two
largest numbers: 0 does not grow, 1 grows in proportion. Rows in the replay are vectors of 4, so that ten million fit.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np
import torch

from offpol import cpu
from offpol.actions import draw
from offpol.assembly import build_agent, build_behavior
from offpol.cli import command_line
from offpol.config import build
from offpol.record import provenance
from offpol.types import EnvSpec, Replay, Rows

VECTOR, IMAGE = (4,), (4, 10, 10)
CALLS = 20
Work = dict[str, Callable[[], object]]


def spec_of(shape: tuple[int, ...], envs: int = 8, actions: int = 6) -> EnvSpec:
    return EnvSpec("made up", envs, actions, shape, torch.float32 if shape == VECTOR else torch.uint8)


def config(*overrides: str) -> dict[str, Any]:
    arguments = command_line.parse(["task=minatar", "run.torch_threads=1", *overrides])
    return command_line.plain(next(command_line.compositions(arguments)))


def filled(cfg: dict[str, Any], spec: EnvSpec, rows: int) -> Replay:
    """Build a replay with so many rows of random play, episodes of a hundred steps."""
    rng, envs = np.random.default_rng(0), spec.num_envs
    replay: Replay = build({**cfg["replay"], "capacity": rows}, "replay", spec=spec, window=cfg["agent"]["window"],
                           seed=0, run_directory="", device="cpu")  # fmt: skip
    for _ in range(rows // envs):
        replay.add(made_up(spec, rng))
    return replay


def made_up(spec: EnvSpec, rng: np.random.Generator) -> Rows:
    envs, dtype = spec.num_envs, torch.empty(0, dtype=spec.dtype).numpy().dtype
    ended = rng.random(envs) < 0.01
    return Rows(
        rng.integers(2, size=(envs, *spec.frame_shape)).astype(dtype), rng.integers(spec.num_actions, size=envs),
        rng.random(envs, np.float32), ended, np.zeros(envs, bool), np.ones(envs, bool),
        np.full(envs, -math.log(spec.num_actions), np.float32), np.zeros(envs, np.int64),
    )  # fmt: skip


def replaying(rows: int) -> Work:
    """Work of a replay of that size."""
    cfg, spec, rng = config(), spec_of(VECTOR), np.random.default_rng(1)
    replay = filled(cfg, spec, rows)
    step, priority = made_up(spec, rng), torch.rand(32)

    def prioritize() -> None:
        batch = replay.sample(32)
        replay.update_priorities(batch.index, batch.generation, priority)

    return {"add 8 rows": lambda: replay.add(step), "sample 32 and set priorities": prioritize}


def updating(actions: int, *overrides: str) -> Work:
    """An update of the default agent, and the draw it learns from."""
    cfg, spec = config(*overrides), spec_of(IMAGE, actions=actions)
    agent, replay = build_agent(cfg, spec), filled(cfg, spec, 4000)
    size = cfg["agent"]["batch_size"]
    return {"update": lambda: agent.update(replay.sample(size)), "sample": lambda: replay.sample(size)}


def acting(envs: int) -> Work:
    """What acting in so many envs takes beside the envs themselves."""
    cfg, spec, rng = config(), spec_of(IMAGE, envs), np.random.default_rng(1)
    agent, behavior = build_agent(cfg, spec), build_behavior(cfg, 0, envs)
    obs, replay = torch.zeros((envs, *IMAGE), dtype=torch.uint8), filled(cfg, spec, 100 * envs)
    step = made_up(spec, rng)
    return {
        "choose": lambda: draw(behavior.probs(*agent.values(obs), 10**6).numpy(), rng),
        "add": lambda: replay.add(step),
    }


def questions() -> Iterator[tuple[str, list[int], Callable[[int], Work]]]:
    """What is varied, over which numbers, and the work that is measured."""
    yield "rows in the replay", [10**4, 10**5, 10**6, 10**7], replaying
    yield "window n", [1, 2, 5, 10, 20, 40], lambda n: updating(6, f"agent.window={n}")
    yield "windows in a batch", [8, 32, 128, 512], lambda b: updating(6, f"agent.batch_size={b}")
    yield "actions", [2, 6, 18, 54], updating
    yield "bins", [11, 51, 201, 801], lambda k: updating(6, f"critic.num_bins={k}")
    yield "envs", [1, 8, 32, 128], acting


def measure(work: Work, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each piece of work over interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):  # the first warms up
        for name, call in work.items():
            began = time.process_time()
            for _ in range(CALLS):
                call()
            times[name].append(1000 * (time.process_time() - began) / CALLS)
    return {name: median(values[1:]) for name, values in times.items()}


def growth(numbers: list[int], costs: list[float]) -> float:
    return math.log(costs[-1] / costs[-2]) / math.log(numbers[-1] / numbers[-2])


def draw_figure(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw a panel for each question, both axes logarithmic."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for panel, (title, result) in zip(panels.flat, found.items(), strict=True):
        for name, costs in result["ms"].items():
            panel.loglog(result["numbers"], costs, marker="o", label=f"{name}, p = {result['growth'][name]:.2f}")
        panel.set(xlabel=title, ylabel="processor ms", xticks=result["numbers"])
        panel.set_xticklabels([f"{number:g}" for number in result["numbers"]])
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.legend(frameon=False, fontsize=8)
        panel.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--largest", type=int, default=10**9, help="leave out numbers above this")
    parser.add_argument("--out", type=Path, required=True, help="the folder of scaling.json and scaling.png")
    arguments = parser.parse_args()
    cpu.set_up(1)
    found: dict[str, dict[str, Any]] = {}
    for title, numbers, build_work in questions():
        numbers = [number for number in numbers if number <= arguments.largest]
        measured = [measure(build_work(number), arguments.rounds) for number in numbers]
        costs = {name: [one[name] for one in measured] for name in measured[0]}
        found[title] = {"numbers": numbers, "ms": costs, "growth": {n: growth(numbers, c) for n, c in costs.items()}}
        for name, values in costs.items():
            cells = ", ".join(f"{number:,}: {value:.3f}" for number, value in zip(numbers, values, strict=True))
            print(f"| {title} | {name} | {cells} | {found[title]['growth'][name]:.2f} |", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    about = provenance.describe(0)
    (arguments.out / "scaling.json").write_text(json.dumps({"about": about, "found": found}, indent=1))
    draw_figure(found, arguments.out / "scaling.png")


if __name__ == "__main__":
    main()
