"""Every agent of conf/experiment on CartPole-v1: the score column of docs/recipes.md.

    python benchmarks/recipes.py --out runs/recipes --seeds 3            # goes on where it was stopped
    python benchmarks/recipes.py --out runs/recipes --seeds 3 --publish  # and writes the JSON and the column

50,000 agent steps of task=cartpole, one thread, then 20 greedy games. Agents of offline data learn from the replay of
the default agent's run with the same seed. Nothing but the experiment is set, so an agent whose published numbers do
not suit so short a run shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean

from offpol.record.run_results import read_run

REPOSITORY = Path(__file__).parent.parent
DOCS, PUBLISHED = REPOSITORY / "docs" / "recipes.md", REPOSITORY / "runs" / "published" / "recipes.json"
OFFLINE = ("bc", "rlpd")  # these learn from data
SAME_AS_DEFAULT = ("retrace_hl_gauss",)  # spelled out; a test says that they are one
AGENTS = sorted(
    path.stem
    for path in (REPOSITORY / "conf" / "experiment").glob("*.yaml")
    if not (REPOSITORY / "conf" / "task" / path.name).exists() and path.stem not in SAME_AS_DEFAULT
)


def play(agent: str, seed: int, agent_steps: int, out: Path) -> dict:
    """Run an agent unless it has been; return its evaluation."""
    directory = out / f"{agent}-seed{seed}"
    evaluation = directory / "evaluation.json"
    if not evaluation.exists():
        command = ["-m", "offpol.main", f"experiment={agent}", "task=cartpole", f"seed={seed}"]
        command.append(f"run.agent_steps={agent_steps}")
        if agent in OFFLINE:
            play("default", seed, agent_steps, out)
            command.append(f"replay.offline={out / f'default-seed{seed}'}")
        with (out / f"{agent}-seed{seed}.log").open("w") as log:
            subprocess.run([sys.executable, *command, f"hydra.run.dir={directory}"], check=True, stdout=log,
                           stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    if (budget := read_run(directory).budget) != agent_steps:
        raise SystemExit(f"{directory} holds a run of {budget} agent steps: give another --out.")
    return json.loads(evaluation.read_text())


def publish(results: dict[str, list[float]], agent_steps: int, out: Path) -> None:
    """Write the scores down, beside those of other agents, and into the table of docs/recipes.md."""
    infos = [json.loads(path.read_text()) for agent in results for path in sorted(out.glob(f"{agent}-seed*/info.json"))]
    task = f"task=cartpole: {agent_steps:,} agent steps, then the mean return of 20 greedy games, by seed"
    known = json.loads(PUBLISHED.read_text()) if PUBLISHED.is_file() else {}
    if known.get("about", {}).get("task") != task:  # scores after other steps do not stand beside these
        known = {"about": {}, "scores": {}}
    about = {
        "task": task,
        "machine": sorted({*known["about"].get("machine", ()), *(info["machine"]["cpu"] for info in infos)}),
        "commits": sorted({*known["about"].get("commits", ()), *(_commit(info) for info in infos)}),
    }
    scores = dict(sorted({**known["scores"], **results}.items()))
    PUBLISHED.write_text(json.dumps({"about": about, "scores": scores}, indent=1) + "\n")
    DOCS.write_text(with_scores(DOCS.read_text(), results))


def _commit(info: dict) -> str:
    return f"{info['git']['commit'][:7]}{' dirty' * info['git']['dirty']}"


def with_scores(text: str, results: dict[str, list[float]]) -> str:
    """Put scores into the last cell of the table's rows that begin with an agent's name."""
    for agent, scores in results.items():
        cell = ", ".join(f"{score:.0f}" for score in scores)
        text = re.sub(rf"^(\| `{agent}`.* \| )[^|]*(?= \|$)", rf"\g<1>{cell}", text, flags=re.MULTILINE)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--agent-steps", type=int, default=50_000, help="of each run")
    parser.add_argument("--agents", nargs="*", default=AGENTS, choices=AGENTS, help="only these")
    parser.add_argument("--publish", action="store_true", help=f"write {PUBLISHED.name} and the table")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[float]] = {agent: [] for agent in arguments.agents}
    for seed in range(arguments.seeds):
        for agent in arguments.agents:
            results[agent].append(play(agent, seed, arguments.agent_steps, out)["mean"])
            print(f"{agent:20} seed {seed}: {results[agent][-1]:6.1f}  (mean {mean(results[agent]):.1f})", flush=True)
    if arguments.publish:
        publish(results, arguments.agent_steps, out)


if __name__ == "__main__":
    main()
