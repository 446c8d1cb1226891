"""Playing full games with what was learned: raw returns, honestly counted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from offpol import checkpoint, cpu, film, run_directory
from offpol.actor import Actor, Episode
from offpol.agent import Agent
from offpol.assembly import build_agent, build_env, check_config
from offpol.command_line import load_saved
from offpol.config import build
from offpol.errors import DISK_FULL, ConfigError
from offpol.output import is_terminal, say, tell
from offpol.reference_scores import human_random
from offpol.seeding import seed_for

RESAMPLES = 10_000  # of the bootstrap
MAX_PICTURES = 1_500  # of a film


def evaluate(actor: Actor, episodes: int, pictures: list[np.ndarray] | None = None) -> list[Episode]:
    """Play full games and return them; each env plays its share, fixed beforehand.

    Taking the first games that end, whichever env they come from, would prefer short ones. `pictures` is filled
    with the first game of env 0, one RGB picture [height, width, 3] per agent step.
    """
    num_envs = actor.env.spec.num_envs
    owed = np.array([episodes // num_envs + (env < episodes % num_envs) for env in range(num_envs)])
    filming = pictures is not None
    played: list[Episode] = []
    with tqdm(total=episodes, unit=" games", disable=not is_terminal(), leave=False) as bar:
        while owed.any():
            if filming and pictures is not None:
                pictures.append(actor.env.render())
            _, ended = actor.step(actor.act(agent_steps=0, policy_version=0))
            for episode in ended:
                filming = filming and episode.stream != 0
                if owed[episode.stream]:
                    owed[episode.stream] -= 1
                    played.append(episode)
                    bar.update()
            filming = filming and len(pictures or ()) < MAX_PICTURES
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
    pictures: list | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Play full games greedily but for a share `epsilon` of random actions; return the numbers."""
    env = build_env({**cfg, "seed": seed}, min(cfg["run"]["eval_num_envs"], episodes), "evaluation")
    if epsilon is None:
        epsilon = getattr(getattr(env, "protocol", None), "evaluation_epsilon", 0.0)
    over = cfg["run"]["eval_over"]
    behavior = build({
        "_target_": "offpol.behavior.epsilon_greedy.EpsilonGreedy", "over": over, "ladder_exponent": 0.0,
        "epsilon": {"start": epsilon, "end": epsilon, "over_agent_steps": 0},
    })  # fmt: skip
    agent.acting_network.train(False)  # no noise in noisy layers
    try:
        actor = Actor(env, behavior, agent.values, seed=seed_for(seed, "evaluation actions"))
        played = evaluate(actor, episodes, pictures)
    finally:
        agent.acting_network.train()
        env.close()
    return {"env": env.spec.name, "epsilon": epsilon, "over": over, "seed": seed, **summarize(played, seed)}


def in_words(result: Mapping[str, Any]) -> str:
    """Say a result in one line."""
    if result["episodes"] == 1:
        return f"{result['mean']:.2f} (one raw full game, epsilon {result['epsilon']:g})"
    low, high = result["interval_95"]
    return (
        f"{result['mean']:.2f} [{low:.2f}, {high:.2f}] (mean of {result['episodes']} raw full games and its 95% "
        f"interval; median {result['median']:.2f}, std {result['std']:.2f}, epsilon {result['epsilon']:g})"
    )


def compared(game: str, score: float) -> str | None:
    """Say how a score compares with random and human play; None where these are not known."""
    reference = human_random().get(game)
    if reference is None:
        return None
    share = f"human-normalised {reference.normalise(score):.2f}"
    return f"random play {reference.random:,g}, a human {reference.goal:,g}: {share}"


def main() -> None:
    """The `offpol-eval` command."""
    parser = argparse.ArgumentParser(
        prog="offpol-eval", description="Play full games with the newest checkpoint of a run; raw returns, as JSON too."
    )
    parser.add_argument("run_dir", type=Path, help="the folder of a run")
    parser.add_argument("--episodes", type=int, default=100, help="full games to play (100)")
    parser.add_argument("--epsilon", type=float, help="share of random actions (as run.eval_epsilon says)")
    parser.add_argument("--seed", type=int, help="of games and actions (the run's own)")
    parser.add_argument("--device", help="cpu, cuda, ... (the run's own)")
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument("--gif", type=Path, dest="film", metavar="FILE.gif", help="write the first game as a film")
    pictures.add_argument("--mp4", type=Path, dest="film", metavar="FILE.mp4", help="the same, with imageio-ffmpeg")
    args = parser.parse_args()
    try:
        evaluate_run(args)
    except ConfigError as error:
        tell(f"offpol-eval: {error}")
        sys.exit(2)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        tell(f"offpol-eval: {args.run_dir} or the film cannot be written: {error.strerror}.")
        sys.exit(1)
    except KeyboardInterrupt:
        tell("offpol-eval: stopped; games that were played count for nothing")
        sys.exit(130)


def evaluate_run(args: argparse.Namespace) -> None:
    """Evaluate the newest checkpoint of a run as `main` was asked to; write and print the result."""
    if args.episodes < 1 or not 0 <= (args.epsilon or 0) <= 1 or (args.seed or 0) < 0:
        raise ConfigError("--episodes must be at least 1, --epsilon between 0 and 1, --seed not negative.")
    cfg = load_saved(args.run_dir)
    check_config(cfg)
    if args.device:
        cfg["run"] |= {"device": args.device, "actor_device": None}
    if args.film:
        film.require_writable(args.film)
        if "render" in cfg["env"]:
            cfg["env"]["render"] = True
    cpu.set_up(cfg["run"]["torch_threads"])
    found = checkpoint.load_newest(args.run_dir / "checkpoints", only=["agent"])
    for sentence in found.lost:
        tell(f"offpol-eval: {sentence}.")
    env = build_env(cfg, 1, "env")
    agent = build_agent(cfg, env.spec)
    env.close()
    agent.load_state_dict(found.state["agent"])
    seed = cfg["seed"] if args.seed is None else args.seed
    epsilon = cfg["run"]["eval_epsilon"] if args.epsilon is None else args.epsilon
    pictures: list[np.ndarray] | None = [] if args.film else None
    result = found.about | evaluation(cfg, agent, args.episodes, epsilon, seed, pictures)
    name = f"evaluation-{found.about['agent_steps']}-steps-epsilon-{result['epsilon']:g}-seed-{seed}.json"
    say(f"{result['env']} after {found.about['agent_steps']:,} agent steps: {in_words(result)}")
    if scale := compared(result["env"], result["mean"]):
        say(f"For comparison: {scale}")
    run_directory.write_json(args.run_dir / name, result)
    say(f"Written: {args.run_dir / name}")
    if pictures is not None:
        film.save(pictures, args.film, fps=min(30.0, 60.0 / env.spec.frames_per_agent_step))
        say(f"Film: {args.film}")
