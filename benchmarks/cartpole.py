"""CartPole-v1 in 50,000 agent steps: `offpol experiment=cartpole` against stable-baselines3's tuned DQN.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/cartpole.py --out runs/cartpole --seeds 5

The two take turns, seed by seed, one thread each. Times are processor seconds of the whole process (imports and the
20 greedy evaluation games included), which repeat on a busy machine where wall-clock does not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import mean

PEER = Path(__file__).parent / "peers" / "sb3_cartpole.py"


def timed(command: list[str], log: Path) -> float:
    """Run a command with one thread, its output to `log`; return its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("w") as output:
        subprocess.run(command, check=True, stdout=output, stderr=subprocess.STDOUT, env={
            **os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def ours(seed: int, agent_steps: int, out: Path) -> dict:
    directory = out / f"offpol-seed{seed}"
    command = ["-m", "offpol.main", "experiment=cartpole", f"seed={seed}", f"run.agent_steps={agent_steps}",
               f"hydra.run.dir={directory}"]  # fmt: skip
    cpu_s = timed([sys.executable, *command], out / f"offpol-seed{seed}.log")
    return {"score": json.loads((directory / "evaluation.json").read_text())["mean"], "cpu_s": cpu_s}


def peer(seed: int, agent_steps: int, out: Path) -> dict:
    log = out / f"sb3-seed{seed}.log"
    command = ["-W", "ignore", str(PEER), "--seed", str(seed), "--agent-steps", str(agent_steps)]
    cpu_s = timed([sys.executable, *command], log)
    return {"score": json.loads(log.read_text().splitlines()[-1])["score"], "cpu_s": cpu_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the runs and result.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--agent-steps", type=int, default=50_000, help="of each run")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    results: dict[str, list[dict]] = {"offpol": [], "stable-baselines3": []}
    for seed in range(arguments.seeds):
        for name, contender in (("offpol", ours), ("stable-baselines3", peer)):
            result = contender(seed, arguments.agent_steps, arguments.out)
            results[name].append(result)
            print(f"seed {seed} {name}: {result['score']:.1f} in {result['cpu_s']:.1f} cpu s", flush=True)
    (arguments.out / "result.json").write_text(json.dumps(results, indent=2))
    print("\n| agent | mean greedy return of 20 games, by seed | cpu seconds, by seed | mean cpu seconds |")
    print("|---|---|---|---|")
    for name, runs in results.items():
        scores = ", ".join(f"{run['score']:.1f}" for run in runs)
        seconds = ", ".join(f"{run['cpu_s']:.0f}" for run in runs)
        print(f"| {name} | {scores} | {seconds} | {mean(run['cpu_s'] for run in runs):.1f} |")


if __name__ == "__main__":
    main()
