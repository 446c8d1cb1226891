"""Who acts and who learns, when: sync, threads and Ray workers on the same work, Atari Pong.

    pip install -c constraints.txt -e ".[fast,ray]"
    python benchmarks/topologies.py threads --rounds 3     # beside sync, round by round
    python benchmarks/topologies.py ray --workers 1 2 4    # with learning, and acting alone

The work: Nature CNN, batch 32, one-step targets, 8 envs, replay of 100,000, no evaluation; one update per 4 agent steps
from agent step 1,000 on. Contenders take turns in rounds, so that a noisy machine disturbs all alike. What is measured
is a run's own log between the first row that is all learning and the last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from end_to_end import OFFPOL

WORK = [*OFFPOL, "run.log_every_agent_steps=250"]  # the same DQN work


def measure(agent_steps: int, arguments: list[str]) -> dict[str, float]:
    """Run the command; return speed, updates, and the shares of time in its log."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        command = [sys.executable, "-m", "offpol.main", *WORK, *arguments, f"run.agent_steps={agent_steps}"]
        subprocess.run([*command, f"hydra.run.dir={directory}"], check=True, capture_output=True)
        rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    first, *rows = [row for row in rows if row["agent_steps"] >= 1500]
    last, before = rows[-1], first
    seconds = last["machine/wall_s"] - first["machine/wall_s"]
    found: dict[str, float] = {
        "agent_steps_per_s": (last["agent_steps"] - first["agent_steps"]) / seconds,
        "updates": last["updates"], "policy_lag_updates": last["policy_lag_updates"],
        "wire_bytes_per_agent_step": last.get("machine/wire_bytes_per_agent_step", 0),
    }  # fmt: skip
    for name in last:
        if name.startswith("machine/share_"):
            found[name.removeprefix("machine/")] = 0.0
    for row in rows:
        part = (row["machine/wall_s"] - before["machine/wall_s"]) / seconds
        for name in found.keys() & {key.removeprefix("machine/") for key in row if "share_" in key}:
            found[name] += part * row[f"machine/{name}"]
        before = row
    return found


def contenders(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Name what is compared; the first is what the others are divided by."""
    if arguments.what == "threads":
        return {
            f"{name}, torch threads {number}": [f"topology={name}", f"run.torch_threads={number}"]
            for number in arguments.torch_threads
            for name in ("sync", "threads")
        }
    ray = ["topology=ray_workers", "env.num_threads=1", "run.torch_threads=1"]
    return {
        f"{workers} workers, {what}": [*ray, *ratio, f"topology.num_workers={workers}"]
        for what, ratio in (("learning", []), ("acting alone", ["run.replay_ratio=0"]))
        for workers in arguments.workers
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["threads", "ray"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--agent-steps", type=int, default=4000)
    parser.add_argument("--torch-threads", type=int, nargs="+", default=[2, 1], help="of threads and sync")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="of ray")
    parser.add_argument("--out", type=Path, help="write everything measured to this JSON file, round by round")
    arguments = parser.parse_args()
    measured: dict[str, list[dict[str, float]]] = {}
    for number in range(arguments.rounds):
        for name, job in contenders(arguments).items():
            measured.setdefault(name, []).append(measure(arguments.agent_steps, job))
            print(f"round {number + 1}, {name}: {measured[name][-1]['agent_steps_per_s']:.1f}/s", flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(measured, indent=1))
    show(measured)


def show(measured: dict[str, list[dict[str, float]]]) -> None:
    """Print medians, ranges, and ratios within the rounds."""
    base = [run["agent_steps_per_s"] for run in next(iter(measured.values()))]
    shares = sorted({key for runs in measured.values() for run in runs for key in run if key.startswith("share_")})
    heads = ["agent steps/s: median (range)", "ratio to the first", "updates", "lag", "bytes/step"]
    print("\n| contender |", " | ".join([*heads, *(share.removeprefix("share_") for share in shares)]), "|")
    print("|---" * (1 + len(heads) + len(shares)) + "|")
    for name, runs in measured.items():
        speeds = [run["agent_steps_per_s"] for run in runs]
        ratio = median(mine / theirs for mine, theirs in zip(speeds, base, strict=False))
        cells = [f"{median(speeds):.0f} ({min(speeds):.0f}-{max(speeds):.0f})", f"{ratio:.2f}"]
        cells += [f"{median(run[key] for run in runs):.0f}" for key in ("updates", "policy_lag_updates")]
        cells += [f"{median(run['wire_bytes_per_agent_step'] for run in runs):.0f}"]
        cells += [f"{median(run.get(share, 0.0) for run in runs):.1%}" for share in shares]
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
