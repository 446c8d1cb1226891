"""Playing full games with what was learned: raw returns, honestly counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from offpol.actor import Actor, Episode
from offpol.agent import Agent
from offpol.assembly import build_agent, build_behavior, build_env, env_spec, patience_s
from offpol.behavior.epsilon_greedy import EpsilonGreedy
from offpol.deadline import Deadline, answering, closing_envs
from offpol.errors import RunError
from offpol.output import is_terminal
from offpol.record.checkpoint import Checkpoint, load_checkpoint
from offpol.record.run_directory import CHECKPOINTS
from offpol.reference_scores import human_random
from offpol.schedule import Schedule
from offpol.seeding import seed_for
from offpol.types import EnvSpec

RESAMPLES = 10_000  # of the bootstrap
LONGEST_GAME = 200_000  # agent steps, after which a game is taken for one that never ends
MAX_PICTURES = 1_500  # of a film


def evaluate(
    actor: Actor, episodes: int, pictures: list[np.ndarray] | None = None, deadline_s: float = math.inf
) -> list[Episode]:
    """Play full games and return them; each env plays its share, fixed beforehand.

    Taking the first games that end, whichever env they come from, would prefer short ones. `pictures` is filled
    with the first game of env 0, one RGB picture [height, width, 3] per agent step. Raises RunError for a game that
    does not end; where a step takes longer than `deadline_s`, the process ends.
    """
    num_envs = actor.env.spec.num_envs
    owed = np.array([episodes // num_envs + (env < episodes % num_envs) for env in range(num_envs)])
    filming = pictures is not None
    played: list[Episode] = []
    lasting = np.zeros(num_envs, dtype=np.int64)  # agent steps of the games that are being played
    hangs = (
        f"{actor.env.spec.name} hangs in the evaluation: a step takes over topology.deadline_s={deadline_s:g} s. What "
        "was learned is in the newest checkpoint; mend the env, or resume the run with a higher deadline."
    )
    deadline = Deadline(deadline_s, lambda: hangs)
    with closing(deadline), tqdm(total=episodes, unit=" games", disable=not is_terminal(), leave=False) as bar:
        while owed.any():
            if filming and pictures is not None:
                pictures.append(actor.env.render())
            decision = actor.act(agent_steps=0, policy_version=0)
            with deadline:
                _, ended = actor.step(decision)
            lasting += 1
            for episode in ended:
                lasting[episode.stream] = 0
                filming = filming and episode.stream != 0
                if owed[episode.stream]:
                    owed[episode.stream] -= 1
                    played.append(episode)
                    bar.update()
            filming = filming and len(pictures or ()) < MAX_PICTURES
            if lasting.max() >= LONGEST_GAME:
                raise RunError(
                    f"a game of {actor.env.spec.name} has not ended after {LONGEST_GAME:,} agent steps of the "
                    "evaluation: give the env a time limit (+env.make_kwargs.max_episode_steps=N), or leave the "
                    "evaluation out (run.eval_episodes=0)"
                )
    return played


def summarize(episodes: Sequence[Episode], seed: int) -> dict[str, Any]:
    """Return mean, median and standard deviation of the raw returns, and the mean's 95% bootstrap interval."""
    returns = np.array([episode.episode_return for episode in episodes])
    resampled = np.random.default_rng(seed).choice(returns, (RESAMPLES, len(returns))).mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {
        "episodes": len(returns),
        "mean": float(returns.mean()),
        "median": float(np.median(returns)),
        "std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "interval_95": [float(low), float(high)],
        "returns": returns.tolist(),
        "lengths_agent_steps": [episode.length_agent_steps for episode in episodes],
    }


def evaluation(
    cfg: Mapping[str, Any], agent: Agent, episodes: int, epsilon: float | None, seed: int,
    pictures: list[np.ndarray] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Play full games greedily but for a share `epsilon` of random actions; return the numbers."""
    deadline_s = patience_s(cfg)
    with answering(deadline_s, "start"):
        env = build_env({**cfg, "seed": seed}, min(cfg["run"]["eval_num_envs"], episodes), "evaluation")
    if epsilon is None:
        epsilon = env.spec.evaluation_epsilon
    over = cfg["run"]["eval_over"] or followed(cfg)
    behavior = EpsilonGreedy(over=over, epsilon=Schedule(epsilon, epsilon, 0, 0), ladder_exponent=0.0)
    agent.acting_network.train(False)  # no noise in noisy layers
    with closing_envs(env, deadline_s):
        try:
            with answering(deadline_s, "start"):
                actor = Actor(env, behavior, agent.values, seed=seed_for(seed, "evaluation actions"))
            played = evaluate(actor, episodes, pictures, deadline_s)
        finally:
            agent.acting_network.train()
    return {"env": env.spec.name, "epsilon": epsilon, "over": over, "seed": seed, **summarize(played, seed)}


def followed(cfg: Mapping[str, Any]) -> Literal["q", "policy"]:
    """Return what the actors of a run follow: a final score is of what acted, made greedy."""
    over: Literal["q", "policy"] = getattr(build_behavior(cfg, 0, cfg["run"]["num_envs"]), "over", "q")
    return over


class Loaded(NamedTuple):
    """What a checkpoint of a run gives to act with."""

    agent: Agent
    spec: EnvSpec
    found: Checkpoint


def load_agent(
    cfg: Mapping[str, Any], directory: Path, checkpoint: str | None = None, only: Sequence[str] = ("agent",)
) -> Loaded:
    """Build the agent of a run, as a checkpoint or the newest whole one has it, of which `only` these parts are read.

    Raises ConfigError where there is none.
    """
    found = load_checkpoint(directory / CHECKPOINTS, checkpoint, only=only)
    spec = env_spec(cfg)
    agent = build_agent(cfg, spec)
    agent.load_state_dict(found.state["agent"])
    return Loaded(agent, spec, found)


def in_words(result: Mapping[str, Any]) -> str:
    """Say a result in one line."""
    how = f"epsilon {result['epsilon']:g}" + (", greedy by the policy" if result["over"] == "policy" else "")
    if result["episodes"] == 1:
        return f"{result['mean']:.2f} (one raw full game, {how})"
    low, high = result["interval_95"]
    return (
        f"{result['mean']:.2f} [{low:.2f}, {high:.2f}] (mean of {result['episodes']} raw full games and its 95% "
        f"interval; median {result['median']:.2f}, std {result['std']:.2f}, {how})"
    )


def compared(game: str, score: float) -> str | None:
    """Say how a score compares with random and human play; None where these are not known."""
    reference = human_random().get(game)
    if reference is None:
        return None
    share = f"human-normalised {reference.normalise(score):.2f}"
    return f"random play {reference.random:,g}, a human {reference.goal:,g}: {share}"
