"""How much of a run's speed is left where several run beside each other.

    python benchmarks/several_runs.py                        # 1 and 2 runs of task=minatar, one thread each
    python benchmarks/several_runs.py --runs 1 4 8 --overrides task=cartpole

Runs of one thread each, as `offpol -m hydra/launcher=joblib` and `offpol-bench` start them, in turns: one alone, then
N at once. Agent steps a second over the second half of each run, when all of them learn; medians of the rounds, and N
together to N times one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from offpol.record import provenance


def start(overrides: list[str], seed: int, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "offpol.main", *overrides, f"seed={seed}", f"hydra.run.dir={folder}",
               "run.torch_threads=1", "run.eval_episodes=0"]  # fmt: skip
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def speed(folder: Path) -> float:
    """Agent steps a second of a run's second half."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    half, last = rows[len(rows) // 2], rows[-1]
    return (last["agent_steps"] - half["agent_steps"]) / (last["machine/wall_s"] - half["machine/wall_s"])


def together(overrides: list[str], number: int, parent: Path) -> float:
    """Run so many at once; return what they do together, in agent steps a second."""
    folders = [parent / f"{number}-{seed}" for seed in range(number)]
    processes = [start(overrides, seed, folder) for seed, folder in enumerate(folders)]
    for process in processes:
        said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"A run ended with {process.returncode}: {said[-1000:]}")
    return sum(speed(folder) for folder in folders)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overrides", nargs="*", default=["task=minatar"])
    parser.add_argument("--agent-steps", type=int, default=15_000)
    parser.add_argument("--runs", nargs="*", type=int, default=[2], help="how many at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write everything measured to this JSON file")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, f"run.agent_steps={arguments.agent_steps}", "run.log_every_agent_steps=1000",
                 f"run.checkpoint_every_agent_steps={arguments.agent_steps}"]  # fmt: skip
    measured: dict[int, list[float]] = {number: [] for number in (1, *arguments.runs)}
    for _ in range(arguments.rounds):
        for number, speeds in measured.items():
            with tempfile.TemporaryDirectory() as folder:
                speeds.append(together(overrides, number, Path(folder)))
    print("| runs at once | agent steps/s together | to N times one |\n|---|---|---|")
    for number, speeds in measured.items():
        share = median(s / (number * one) for s, one in zip(speeds, measured[1], strict=True))
        print(f"| {number} | {median(speeds):.0f} ({min(speeds):.0f}-{max(speeds):.0f}) | {share:.2f} |")
    if arguments.out:
        about = provenance.describe(0)
        arguments.out.write_text(json.dumps({"about": about, "overrides": overrides, "measured": measured}, indent=1))


if __name__ == "__main__":
    main()
