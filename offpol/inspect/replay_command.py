"""The `offpol-replay` command. torch is imported only once there is something to do."""

from __future__ import annotations

from pathlib import Path

from offpol.cli.ending import Parser, ending


def main() -> None:
    """The `offpol-replay` command."""
    parser = Parser(
        prog="offpol-replay", description="Show what a run's newest checkpoint has in its replay; export or import it."
    )
    parser.add_argument("run_dir", type=Path, help="the folder of a run")
    parser.add_argument("--windows", type=int, default=6, help="windows on the contact sheet (6)")
    parser.add_argument("--seed", type=int, default=0, help="which windows (0)")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--export", type=Path, metavar="FILE.npz", help="write all rows, priorities and draws' state")
    files.add_argument(
        "--import", type=Path, dest="source", metavar="FILE.npz",
        help="make it the replay of the run, in a new checkpoint that is otherwise the newest one",
    )  # fmt: skip
    with ending("offpol-replay", "stopped; the run is as it was"):
        args = parser.parse_args()
        from offpol.inspect.replay_contents import show, take_in

        if args.source:
            take_in(args.run_dir, args.source)
        else:
            show(args)


if __name__ == "__main__":
    main()
