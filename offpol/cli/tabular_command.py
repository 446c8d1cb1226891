"""The `offpol-tabular` command. torch is imported only once there is something to do."""

from __future__ import annotations

from pathlib import Path

from offpol.cli.ending import Parser, ending
from offpol.errors import ConfigError
from offpol.output import say
from offpol.record.run_directory import require_writable

FORMATS = (".png", ".svg", ".pdf")
LONGEST_WINDOW = 7  # four times as many windows at each step more: minutes, and gigabytes beyond
DESCRIPTION = """\
The question on a blackboard: every trace operator, exactly, on a small random MDP.

Prints bias, speed and noise of each by how off-policy the data is, and draws them.
"""


def main() -> None:
    """The `offpol-tabular` command: survey the operators, print a table and save the figure."""
    parser = Parser(prog="offpol-tabular", description=DESCRIPTION)
    parser.add_argument("--seed", type=int, default=0, help="of the random MDP")
    parser.add_argument("--window", type=int, default=5, help="transitions per window")
    parser.add_argument("--iterations", type=int, default=60, help="how often each operator is applied in the figure")
    parser.add_argument("--output", type=Path, default=Path("runs/tabular.png"), help="where the figure goes")
    with ending("offpol-tabular", "stopped; nothing was written"):
        args = parser.parse_args()
        for name in ("window", "iterations"):
            if getattr(args, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, but is {getattr(args, name)}.")
        if args.window > LONGEST_WINDOW:
            raise ConfigError(
                f"--window must be at most {LONGEST_WINDOW}, but is {args.window}: every possible window is looked at."
            )
        if args.output.suffix not in FORMATS or args.output.is_dir():
            raise ConfigError(f"--output is {args.output}, but must be a file that ends in {', '.join(FORMATS)}.")
        require_writable(args.output.parent, "name another file with --output.")
        import torch

        from offpol.tabular import EPSILONS, SHOWN, operators, survey, table
        from offpol.tabular_figure import draw

        torch.set_num_threads(1)  # of many small products: threads would only wait for each other
        how_long = "some minutes" if args.window > 5 else "up to a minute"
        say(f"{len(operators())} operators at {len(EPSILONS)} epsilons, in {how_long}:\n")
        results = survey(args.seed, args.window, args.iterations)
        say(table(results))
        draw(results, EPSILONS, SHOWN, args.output)
        say(f"figure: {args.output}")
