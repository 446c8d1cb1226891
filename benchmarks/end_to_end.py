"""Identical DQN work on Atari Pong, contender by contender: agent steps per second while learning.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/end_to_end.py --rounds 3

The work: Nature CNN, batch 32, one-step targets, one update per 4 agent steps from agent step 1,000 on, 8 envs, replay
of 100,000, epsilon .05, Adam, target copied every 1,000 updates, 2 torch threads, no evaluation. Contenders take turns
in rounds, so that a noisy machine disturbs all alike; the table shows medians, ranges and ratios of the same run. On a
machine that does other work too, only processor time with `--threads 1` means anything. One contender computes in
bfloat16, which is not the same work: the others do not offer it.
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

PEERS = Path(__file__).parent / "peers"
OFFPOL = [
    "env.game=Pong", "network=nature", "policy=greedy", "policy.double=false", "trace=one_step", "critic=scalar",
    "replay=uniform", "agent.window=1", "agent.train_positions=1", "agent.target.rate=1.0",
    "agent.target.period_updates=1000", "agent.optimizer.learning_rate=1e-4",
    "behavior.epsilon={start:0.05,end:0.05,over_agent_steps:1}",
    "run.replay_ratio=0.25", "run.learning_starts_agent_steps=1000",
    "run.num_envs=8", "run.log_every_agent_steps=500", "run.checkpoint_every_agent_steps=1000000",
    "run.eval_episodes=0",
]  # fmt: skip


def offpol(agent_steps: int, threads: int, extra: list[str]) -> dict:
    """Run the command and read its own log, from the first row that is all learning."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        command = [sys.executable, "-m", "offpol.main", *OFFPOL, *extra, f"run.agent_steps={agent_steps}",
                   f"run.torch_threads={threads}", f"hydra.run.dir={directory}"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["agent_steps"] > 1600]
    steps, seconds, cpu_s = (
        rows[-1][name] - rows[0][name] for name in ("agent_steps", "machine/wall_s", "machine/cpu_s")
    )
    return {
        "agent_steps_per_s": steps / seconds, "cpu_ms_per_agent_step": 1000 * cpu_s / steps,
        "updates": rows[-1]["updates"], "peak_memory_mb": rows[-1]["machine/peak_memory_mb"],
        "shares": {name.removeprefix("machine/share_"): rows[-1][name] for name in rows[-1] if "share_" in name},
    }  # fmt: skip


def peer(script: Path, agent_steps: int, threads: int) -> dict:
    command = [sys.executable, "-W", "ignore", str(script), "--agent-steps", str(agent_steps)]
    command += ["--threads", str(threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agent-steps", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contenders", nargs="+", help="only these, stable-baselines3 among them")
    parser.add_argument("--out", type=Path, help="also write everything measured to this JSON file")
    arguments = parser.parse_args()
    os.environ["GOMP_SPINCOUNT"] = os.environ.get("GOMP_SPINCOUNT", "200000")  # alike for all contenders
    steps, threads = arguments.agent_steps, arguments.threads
    contenders = {
        "offpol, sync": lambda: offpol(steps, threads, []),
        "offpol, sync, bfloat16": lambda: offpol(steps, threads, ["run.autocast=bfloat16"]),
        "offpol, threads": lambda: offpol(steps, threads, ["topology=threads"]),
        "stable-baselines3": lambda: peer(PEERS / "sb3_dqn_atari.py", steps, threads),
        "tianshou": lambda: peer(PEERS / "tianshou_dqn_atari.py", steps, threads),
        "plain script, as CleanRL's": lambda: peer(PEERS / "plain_dqn_atari.py", steps, threads),
    }
    if arguments.contenders:
        contenders = {name: contenders[name] for name in arguments.contenders}
    measured: dict[str, list[dict]] = {name: [] for name in contenders}
    for number in range(arguments.rounds):
        for name, contender in contenders.items():
            measured[name].append(contender())
            speed, cpu = (measured[name][-1][key] for key in ("agent_steps_per_s", "cpu_ms_per_agent_step"))
            print(f"round {number + 1} {name}: {speed:.1f}/s, {cpu:.2f} processor ms an agent step", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(measured, indent=2))
    print("\n| contender | agent steps/s | times stable-baselines3's | processor ms an agent step | of its | peak MB |")
    print("|---|---|---|---|---|---|")
    for name, runs in measured.items():
        columns = []
        for key in ("agent_steps_per_s", "cpu_ms_per_agent_step"):
            values, base = ([run[key] for run in some] for some in (runs, measured["stable-baselines3"]))
            ratio = median(mine / theirs for mine, theirs in zip(values, base, strict=True))  # round by round
            columns += [f"{median(values):.3g} ({min(values):.3g}-{max(values):.3g})", f"{ratio:.2f}"]
        peak = max(run["peak_memory_mb"] for run in runs)
        print(f"| {name} | {' | '.join(columns)} | {peak:.0f} |")


if __name__ == "__main__":
    main()
