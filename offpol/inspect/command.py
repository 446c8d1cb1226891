"""`offpol-inspect`: any checkpoint of a run under the lens. torch is imported only once there is something to do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from offpol import cpu
from offpol.cli.ending import FAILED, Parser, ending
from offpol.errors import ConfigError
from offpol.output import say, tell

DESCRIPTION = """\
Look at a checkpoint of a run and at its replay.

  offpol-inspect RUN_DIR                every trace operator on the same windows, by sample age; one window in pictures
  offpol-inspect RUN_DIR --window 10    with longer windows than the run's
  offpol-inspect RUN_DIR --check-mu     was the probability of every logged action computed right?

Writes tables and figures into RUN_DIR/inspect/. docs/diagnostics.md explains them.
"""


def parser() -> Parser:
    """Describe the command line."""
    made = Parser(prog="offpol-inspect", description=DESCRIPTION)
    made.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the folder of a run")
    made.add_argument("--checkpoint", metavar="NAME", help="one of RUN_DIR/checkpoints, as in 000012 (the newest)")
    made.add_argument("--batches", type=int, default=64, help="batches of windows that are drawn (64)")
    made.add_argument("--window", type=int, help="transitions of a window (the run's)")
    made.add_argument(
        "--offline", metavar="DATA", help="where the stored rows of replay.offline are now (where they were)"
    )
    made.add_argument("--seed", type=int, default=0, help="which windows, or which actions (0)")
    made.add_argument("--device", help="cpu, cuda, ... (the run's own)")
    made.add_argument("--out", type=Path, metavar="DIR", help="where files are written (RUN_DIR/inspect)")
    made.add_argument("--check-mu", action="store_true", help="recompute the logged probabilities instead")
    made.add_argument("--steps", type=int, default=400, help="with --check-mu: agent steps that are acted anew (400)")
    return made


def main() -> None:
    """The `offpol-inspect` command; a wrong probability is a failure too."""
    with ending("offpol-inspect", "stopped; the run is as it was"):
        args = parser().parse_args()
        sys.exit(_check_mu(args) if args.check_mu else _inspect(args))


def _config(args: argparse.Namespace) -> dict[str, Any]:
    """Check the command line against the run; return the run's config and set torch up."""
    from offpol.checks import check_config
    from offpol.cli.saved_config import load_saved

    if args.batches < 1 or args.steps < 1 or args.seed < 0 or (args.window is not None and args.window < 1):
        raise ConfigError("--batches, --window and --steps must be at least 1, --seed not negative.")
    cfg = load_saved(args.run_dir, args.device)
    if args.offline:
        if not cfg["replay"].get("offline"):
            raise ConfigError(f"--offline is for runs with replay.offline, and {args.run_dir} has none: leave it out.")
        cfg["replay"]["offline"] = args.offline
    check_config(cfg)
    from offpol.record.run_directory import INSPECT, require_writable

    args.out = args.out or args.run_dir / INSPECT
    require_writable(args.out, "name another folder with --out")

    cpu.set_up(cfg["run"]["torch_threads"])
    return cfg


def _inspect(args: argparse.Namespace) -> int:
    """Draw windows, put them through every operator, and show what came of it."""
    cfg = _config(args)
    from offpol.inspect import figures, inspection, tables, window

    subject = inspection.load(cfg, args.run_dir, args.checkpoint, args.window)
    for sentence in subject.found.lost:
        tell(f"offpol-inspect: {sentence}.")
    windows = inspection.look(subject, args.batches, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    told = tables.report(subject, windows)
    say(told)
    written = tables.write(subject, windows, args.seed, args.out)
    for name, figure in {
        "operators.png": figures.operators(windows, subject.own),
        "rho_and_traces_by_age.png": figures.by_age(windows, subject.own),
        "q_and_monte_carlo.png": figures.values(windows, subject.own),
        "window.png": window.picture(subject, windows, window.choose(windows, subject.own)),
    }.items():
        written.append(figures.save(figure, args.out / name))
    say(f"\nWritten into {args.out}: {', '.join(path.name for path in written)}")
    return 0


def _check_mu(args: argparse.Namespace) -> int:
    """Recompute logged probabilities; return the exit code."""
    cfg = _config(args)
    from offpol.inspect import mu_check

    result = mu_check.check(cfg, args.run_dir, args.checkpoint, args.steps, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    path = mu_check.write(result, args.out)
    say(mu_check.in_words(result))
    say(f"Written: {path}")
    return 0 if result.right else FAILED


if __name__ == "__main__":
    main()
