"""The `offpol-eval` command. torch is imported only once there is something to do."""

from __future__ import annotations

import argparse
from pathlib import Path

from offpol.cli.ending import Parser, ending
from offpol.errors import ConfigError
from offpol.output import say, tell


def main() -> None:
    """The `offpol-eval` command."""
    parser = Parser(
        prog="offpol-eval", description="Play full games with a checkpoint of a run; raw returns, as JSON too."
    )
    parser.add_argument("run_dir", type=Path, help="the folder of a run")
    parser.add_argument("--episodes", type=int, default=100, help="full games to play (100)")
    parser.add_argument("--epsilon", type=float, help="share of random actions (as run.eval_epsilon says)")
    parser.add_argument("--over", choices=("q", "policy"), help="what is greedy (as run.eval_over says)")
    parser.add_argument("--seed", type=int, help="of games and actions (the run's own)")
    parser.add_argument("--checkpoint", metavar="NAME", help="the name of one in RUN_DIR/checkpoints (the newest)")
    parser.add_argument("--device", help="cpu, cuda, ... (the run's own)")
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument("--gif", type=Path, dest="film", metavar="FILE.gif", help="write the first game as a film")
    pictures.add_argument("--mp4", type=Path, dest="film", metavar="FILE.mp4", help="the same, with imageio-ffmpeg")
    with ending("offpol-eval", "stopped; games that were played count for nothing"):
        _evaluate(parser.parse_args())


def _evaluate(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint of a run; write and print the result."""
    import numpy as np

    from offpol import cpu, film
    from offpol.checks import check_config
    from offpol.cli.saved_config import load_saved
    from offpol.evaluate import compared, evaluation, in_words, load_agent
    from offpol.record import run_directory

    if args.episodes < 1 or not 0 <= (args.epsilon or 0) <= 1 or (args.seed or 0) < 0:
        raise ConfigError("--episodes must be at least 1, --epsilon between 0 and 1, --seed not negative.")
    cfg = load_saved(args.run_dir, args.device)
    cfg["run"]["eval_over"] = args.over or cfg["run"]["eval_over"]
    check_config(cfg)
    if args.film:
        film.require_possible(args.film)
        if "render" in cfg["env"]:
            cfg["env"]["render"] = True
    cpu.set_up(cfg["run"]["torch_threads"])
    agent, spec, found = load_agent(cfg, args.run_dir, args.checkpoint)
    for sentence in found.lost:
        tell(f"offpol-eval: {sentence}.")
    seed = cfg["seed"] if args.seed is None else args.seed
    epsilon = cfg["run"]["eval_epsilon"] if args.epsilon is None else args.epsilon
    pictures: list[np.ndarray] | None = [] if args.film else None
    result = found.about | evaluation(cfg, agent, args.episodes, epsilon, seed, pictures)
    name = (
        f"evaluation-{found.about['agent_steps']}-steps-{args.episodes}-games-over-{result['over']}-epsilon-"
        f"{result['epsilon']:g}-seed-{seed}.json"
    )
    say(f"{result['env']} after {found.about['agent_steps']:,} agent steps: {in_words(result)}")
    if scale := compared(result["env"], result["mean"]):
        say(f"For comparison: {scale}")
    run_directory.write_json(args.run_dir / name, result)
    say(f"Written: {args.run_dir / name}")
    if pictures is not None:
        film.save(pictures, args.film, fps=min(30.0, 60.0 / spec.frames_per_agent_step))
        say(f"Film: {args.film}")
