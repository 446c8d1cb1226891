"""Measure agents that do not learn: random play, and the best constant action, in every game of the suites.

    python benchmarks/baselines.py                    # writes offpol/data/baselines.csv; goes on where it was stopped
    python benchmarks/baselines.py s6 --games Krull   # one game, under the suite's protocol

A normalised score means little where pressing one button reaches it. Each action is held for a few games, which are
left when nothing has been scored for a while; the best on average is played again in fresh, full games, and only
those are reported, so that its score is not the luckiest of many. Raw scores, under the protocol of each suite.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import numpy as np

from offpol.assembly import build_env
from offpol.bench.suite import Job, expand, load_suite
from offpol.env.minatar import _load_game
from offpol.reference_scores import BASELINES

SUITES = ("minatar", "s6", "s8", "atari100k", "atari57")  # in this order
GAMES_PER_ACTION = {"minatar": 100, "atari": 2}  # to choose the best by
GAMES = {"minatar": 1000, "atari": 10}  # to report
PATIENCE_AGENT_STEPS = 1_500  # without a reward, 100 s of play, while choosing: a held button changes nothing more
HEADER = (
    "game", "protocol", "baseline", "action", "episodes", "mean", "std", "episodes_per_action_tried", "version",
)  # fmt: skip


def play(job: Job, games: int, stream: str, act: Callable[[int], np.ndarray], patience: float = np.inf) -> np.ndarray:
    """Play one game in each of `games` envs side by side; return the raw scores [games].

    A game is left when it has brought no reward for `patience` agent steps.
    """
    env = build_env(job.cfg, games, f"baseline {stream}")
    env.reset()
    scores, over, quiet = np.zeros(games), np.zeros(games, dtype=bool), np.zeros(games)
    while not over.all():
        step = env.step(act(env.spec.num_actions))
        scores += np.where(over, 0.0, step.raw_reward)
        quiet = np.where(step.raw_reward != 0, 0, quiet + 1)
        over |= step.game_over | (quiet >= patience)
    env.close()
    return scores


def measure(job: Job) -> list[list[Any]]:
    """Return the two rows of a game."""
    kind = env_kind(job)
    games, tries, rng = GAMES[kind], GAMES_PER_ACTION[kind], np.random.default_rng(0)
    names = action_names(job)
    scores = play(job, games, "random", lambda actions: rng.integers(actions, size=games))
    rows = [row(job, "random", "", scores, "")]
    means = []
    for action in range(len(names)):
        held = np.full(tries, action)
        means.append(play(job, tries, "choice", lambda _, held=held: held, PATIENCE_AGENT_STEPS).mean())
    best = int(np.argmax(means))
    scores = play(job, games, "constant", lambda _: np.full(games, best))
    return [*rows, row(job, "best constant action", names[best], scores, tries)]


def row(job: Job, baseline: str, action: str, scores: np.ndarray, tries: int | str) -> list[Any]:
    """Write scores down as the table has them."""
    package = "minatar" if env_kind(job) == "minatar" else "ale-py"
    spread = round(float(scores.std(ddof=1)), 3)
    numbers = [len(scores), round(float(scores.mean()), 3), spread, tries]
    return [job.game, protocol_name(job), baseline, action, *numbers, f"{package} {metadata.version(package)}"]


def env_kind(job: Job) -> str:
    """Return minatar or atari."""
    return str(job.cfg["env"]["_target_"].split(".")[-2])


def protocol_name(job: Job) -> str:
    """Return the preset that a game is played under; MinAtar has one protocol."""
    return str(job.cfg["env"].get("protocol", {}).get("name", "minatar"))


def action_names(job: Job) -> list[str]:
    """Name the actions that the env offers."""
    if env_kind(job) == "minatar":
        game = _load_game(job.cfg["env"]["game"]).Env()
        meanings = {"n": "NOOP", "l": "LEFT", "u": "UP", "r": "RIGHT", "d": "DOWN", "f": "FIRE"}
        return [meanings[game.action_map[action]] for action in game.minimal_action_set()]
    gymnasium.register_envs(ale_py)
    return list(gymnasium.make(f"ALE/{job.game}-v5").unwrapped.get_action_meanings())  # type: ignore[attr-defined]


def fill(table: Path, suites: Sequence[str], games: Sequence[str]) -> None:
    """Measure what is not in the table yet, a game at a time."""
    known: list[list[Any]] = []
    if table.exists():
        with table.open(newline="") as file:
            known = list(csv.reader(file))[1:]
    for suite in suites:
        for job in expand(load_suite(suite), ["seed=0"]):
            done = (job.game, protocol_name(job)) in {(one[0], one[1]) for one in known}
            if done or (games and job.game not in games):
                continue
            found = measure(job)
            known += found
            with table.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([HEADER, *sorted(known, key=lambda one: one[:3])])
            for one in found:
                print(*one, flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)} (all, in this order)")
    parser.add_argument("--games", nargs="*", default=[], help="of the suites; all")
    parser.add_argument("--table", type=Path, default=BASELINES, help="where it is written")
    args = parser.parse_args()
    fill(args.table, args.suites or SUITES, args.games)


if __name__ == "__main__":
    main()
