"""How runs scored while they trained: the mean of their newest games at some agent steps.

    python benchmarks/training_means.py runs/published/s6_gpu --games Assault Boxing Breakout Jamesbond Krull RoadRunner

For every agent that has run all of these games: the mean of the last 50 games (fewer where there were fewer) that ended
by then, human-normalised, averaged over games and seeds; as a table.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from statistics import mean

from offpol.record.run_labels import collect, named
from offpol.record.run_results import RunResult
from offpol.reference_scores import human_random

NEWEST = 50


def newest_mean(run: RunResult, agent_steps: int) -> float:
    """Return the mean return of the newest games that ended within so many agent steps, human-normalised."""
    ended, returns = run.episodes.T
    return float(human_random()[run.game].normalise(returns[ended <= agent_steps][-NEWEST:].mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="folders of runs")
    parser.add_argument("--games", nargs="+", required=True, help="all of them; agents that lack one are left out")
    parser.add_argument("--steps", nargs="+", type=int, default=[25_000, 50_000, 65_000, 75_000, 100_000])
    args = parser.parse_args()
    runs = defaultdict(lambda: defaultdict(list))
    for one in named(collect(args.paths)):
        runs[one.agent][one.run.game].append(one.run)
    print(f"| | {' | '.join(f'{steps:,}' for steps in args.steps)} |\n|---|{'---|' * len(args.steps)}")
    for agent, by_game in runs.items():
        if set(args.games) <= set(by_game):
            of = [by_game[game] for game in args.games]
            means = [mean(mean(newest_mean(run, steps) for run in each) for each in of) for steps in args.steps]
            print(f"| {agent} | {' | '.join(f'{one:.2f}' for one in means)} |")


if __name__ == "__main__":
    main()
