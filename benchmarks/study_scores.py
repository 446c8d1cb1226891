"""Whose score is it? Final games of the study's runs whose actors follow the policy, by the policy and by Q.

    python benchmarks/study_scores.py runs/study/full runs/study/lambda --out docs/study/scores.csv

Every finished run with behavior=epsilon_policy plays 100 games of either kind with its newest checkpoint
(by `--over` of offpol-eval), unless the run's folder has their result already. Writes a row per run, and prints means.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from offpol.record.identity import FOLLOWED
from offpol.record.run_labels import Labelled, collect, named

GAMES = 100
HEADER = ("operator", "age", "game", "seed", "greedy_by_policy", "greedy_by_q")


def score(folder: Path, over: str) -> float:
    """Return the mean return of games as the run's own final ones, but greedy by `over`, played now if need be."""
    own = json.loads((folder / "evaluation.json").read_text())
    for _ in range(2):
        for file in folder.glob("evaluation*.json"):
            result = json.loads(file.read_text())
            same = all(result.get(key) == own.get(key) for key in ("agent_steps", "epsilon", "seed"))
            if same and (result["over"], result["episodes"]) == (over, GAMES):
                return float(result["mean"])
        command = ["offpol.cli.evaluate_command", str(folder), "--over", over, "--episodes", str(GAMES)]
        play = f"import sys; sys.argv = {command!r}; from {command[0]} import main; main()"
        subprocess.run([sys.executable, "-c", play], check=True, stdout=subprocess.DEVNULL)
    raise SystemExit(f"study_scores: {folder} has no {GAMES} games greedy by {over}.")


def follows_the_policy(one: Labelled) -> bool:
    """Tell by the config: in `frozen` the names of behaviors are those of the data."""
    return FOLLOWED.get(one.run.cfg["behavior"]["_target_"]) == "policy"


def row(one: Labelled) -> tuple[str, str, str, int, float, float]:
    operator, age = one.agent.split(", ")[:2]
    by_policy, by_q = (score(one.run.directory, over) for over in ("policy", "q"))
    return operator, age, one.run.game, one.run.seed, by_policy, by_q


def tell(rows: Sequence[tuple[str, str, str, int, float, float]]) -> None:
    """Print the means over seeds, and over everything."""
    cells = defaultdict(list)
    for operator, age, _, _, by_policy, by_q in rows:
        for cell in ((operator, age), ("all", age), ("all", "all")):
            cells[cell].append((by_policy, by_q))
    print("| operator | data | by the policy | by Q | runs |\n|---|---|---:|---:|---:|")
    for (operator, age), found in cells.items():
        by_policy, by_q = (mean(pair[k] for pair in found) for k in (0, 1))
        print(f"| {operator} | {age} | {by_policy:.2f} | {by_q:.2f} | {len(found)} |")
    print(f"by the policy better in {sum(one[4] > one[5] for one in rows)} of {len(rows)} runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="folders of benches of the study")
    parser.add_argument("--out", type=Path, required=True, help="the table to write")
    args = parser.parse_args()
    found = [one for one in named(collect(args.paths)) if one.run.finished and follows_the_policy(one)]
    if not found:
        raise SystemExit(f"study_scores: {', '.join(args.paths)}: no finished run whose actors follow the policy.")
    rows = sorted(row(one) for one in found)
    with args.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)
    tell(rows)


if __name__ == "__main__":
    main()
