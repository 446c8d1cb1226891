"""The `offpol-minari` command. torch is imported only once there is something to do."""

from __future__ import annotations

from pathlib import Path

from offpol.cli.ending import Parser, ending
from offpol.output import say


def main() -> None:
    """The `offpol-minari` command."""
    parser = Parser(prog="offpol-minari", description="A run's replay as a Minari dataset, and back.")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write the replay of a run's newest checkpoint as a dataset")
    export.add_argument("run_dir", type=Path, help="the folder of a run")
    export.add_argument("id", help="of the new dataset, as in breakout/offpol-v0")
    check = commands.add_parser("import", help="load a dataset as replay.offline=minari:ID will, and say what is in it")
    check.add_argument("id", help="of a local dataset")
    with ending("offpol-minari", "stopped; of a dataset that was being written a part may be left"):
        args = parser.parse_args()
        from offpol.minari import export_dataset, import_dataset

        if args.command == "export":
            say(f"{export_dataset(args.run_dir, args.id):,} transitions written as {args.id}.")
        else:
            rows = import_dataset(args.id, stack=1)
            episodes, shape = int((~rows["valid"]).sum()), tuple(rows["obs"].shape[1:])
            say(f"{args.id}: {int(rows['valid'].sum()):,} transitions in {episodes:,} episodes, frames {shape}.")
            if rows["behavior_log_prob"].isnan().any():
                say("It did not log with which probabilities actions were drawn: traces that need them are refused.")
            say(f"Learn from it: offpol experiment=rlpd replay.offline=minari:{args.id} (with its env)")
