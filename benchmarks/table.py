"""Tabulate finished runs: one line per (env, label), its seeds side by side.

    python benchmarks/table.py runs/minatar/*            # label: the run directory's name without -seedN

Scores are the final policy's mean raw full-game return (evaluation.json), never the best on the way.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

HEADER = "| env | agent | seeds | final score of each seed | mean | last 100 training games | trace length | minutes |"


def read(directory: Path) -> dict:
    """Read what one finished run has to say; raise FileNotFoundError where it is not finished."""
    evaluation = json.loads((directory / "evaluation.json").read_text())
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    last = rows[-1]
    return {
        "env": evaluation["env"], "label": re.sub(r"-seed\d+$", "", directory.name), "score": evaluation["mean"],
        "training": last.get("episode_return", float("nan")), "trace": last.get("trace_length", float("nan")),
        "minutes": last["machine/wall_s"] / 60,
    }  # fmt: skip


def main() -> None:
    groups: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for argument in sorted(sys.argv[1:]):
        directory = Path(argument)
        if (directory / "evaluation.json").exists():
            run = read(directory)
            groups[run["env"], run["label"]].append(run)
        else:
            print(f"{directory}: not finished, left out", file=sys.stderr)
    print(HEADER)
    print("|---|---|---|---|---|---|---|---|")
    for (env, label), runs in sorted(groups.items()):
        scores = ", ".join(f"{run['score']:.1f}" for run in runs)
        means = [f"{mean(run[name] for run in runs):.1f}" for name in ("score", "training", "trace", "minutes")]
        print(f"| {env} | {label} | {len(runs)} | {scores} | {' | '.join(means)} |")


if __name__ == "__main__":
    main()
