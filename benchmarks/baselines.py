"""Measure agents that do not learn: random play, and the best constant action, in every game of two suites.

    python benchmarks/baselines.py                 # writes offpol/data/baselines.csv; goes on where it was stopped

A normalised score means little where pressing one button reaches it. Each action is held for a few games, which are
left when nothing has been scored for a while; the best on average is played again in fresh, full games, and only
those are reported, so that its score is not the luckiest of many. Raw scores, under the protocols of the suites
atari100k and minatar.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib import metadata
from typing import Any

import ale_py
import gymnasium
import numpy as np

from offpol.assembly import build_env
from offpol.env.minatar import _load_game
from offpol.reference_scores import BASELINES
from offpol.suite import Job, expand, load_suite

GAMES_PER_ACTION = {"atari100k": 3, "minatar": 100}  # to choose the best by
GAMES = {"atari100k": 10, "minatar": 1000}  # to report
PATIENCE_AGENT_STEPS = 3_000  # without a reward, 200 s of play, while choosing: a held button changes nothing more
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


def measure(suite: str, job: Job) -> list[list[Any]]:
    """Return the two rows of a game."""
    games, rng = GAMES[suite], np.random.default_rng(0)
    names = action_names(suite, job)
    scores = play(job, games, "random", lambda actions: rng.integers(actions, size=games))
    rows = [row(suite, job, "random", "", scores, "")]
    tries = GAMES_PER_ACTION[suite]
    means = []
    for action in range(len(names)):
        held = np.full(tries, action)
        means.append(play(job, tries, "choice", lambda _, held=held: held, PATIENCE_AGENT_STEPS).mean())
    best = int(np.argmax(means))
    scores = play(job, games, "constant", lambda _: np.full(games, best))
    return [*rows, row(suite, job, "best constant action", names[best], scores, tries)]


def row(suite: str, job: Job, baseline: str, action: str, scores: np.ndarray, tries: int | str) -> list[Any]:
    """Write scores down as the table has them."""
    protocol, package = ("minatar", "minatar") if suite == "minatar" else (suite, "ale-py")
    spread = round(float(scores.std(ddof=1)), 3)
    numbers = [len(scores), round(float(scores.mean()), 3), spread, tries]
    return [job.game, protocol, baseline, action, *numbers, f"{package} {metadata.version(package)}"]


def action_names(suite: str, job: Job) -> list[str]:
    """Name the actions that the env offers."""
    if suite == "minatar":
        game = _load_game(job.cfg["env"]["game"]).Env()
        meanings = {"n": "NOOP", "l": "LEFT", "u": "UP", "r": "RIGHT", "d": "DOWN", "f": "FIRE"}
        return [meanings[game.action_map[action]] for action in game.minimal_action_set()]
    gymnasium.register_envs(ale_py)
    return list(gymnasium.make(f"ALE/{job.game}-v5").unwrapped.get_action_meanings())  # type: ignore[attr-defined]


def main() -> None:
    """Measure what is not in the table yet, a game at a time."""
    known: list[list[Any]] = []
    if BASELINES.exists():
        with BASELINES.open(newline="") as file:
            known = list(csv.reader(file))[1:]
    for suite in ("minatar", "atari100k"):
        for job in expand(load_suite(suite), ["seed=0"]):
            if job.game in {one[0] for one in known}:
                continue
            found = measure(suite, job)
            known += found
            with BASELINES.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([HEADER, *sorted(known, key=lambda one: one[:3])])
            for one in found:
                print(*one, flush=True)


if __name__ == "__main__":
    main()
