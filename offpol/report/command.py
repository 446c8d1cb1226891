"""`offpol-report`: any set of runs as tables and figures with honest intervals, beside published agents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offpol.cli.ending import Parser, ending
from offpol.errors import ConfigError, did_you_mean
from offpol.output import say
from offpol.record.run_directory import require_writable
from offpol.record.run_labels import Labelled, collect, never_begun
from offpol.report import pages
from offpol.report.grouping import compare
from offpol.report.pages import Block, Heading, Text, Warn

DESCRIPTION = """\
Compare runs: aggregates with intervals, profiles, curves, games, beside published agents where protocols match.

  offpol-report runs/bench/s6 --out report                a whole bench
  offpol-report ours=runs/a theirs=runs/b --out report    names of your own; each is pooled as one agent

Writes index.html (one self-contained page), report.md, figures/ (PNG, SVG) and CSV files.
"""


def report(words: Sequence[str], out: Path, title: str, games: Sequence[str], with_published: bool) -> str:
    """Write the report of the runs found; return what a terminal should show of it."""
    from offpol.report.csv_files import aggregate_rows, curve_rows, run_rows  # matplotlib takes a while
    from offpol.report.sections import Section

    runs = collect(words)
    _check_games(games, runs)
    require_writable(out, "name another folder with --out")
    comparisons = sorted(compare(runs, games, with_published), key=lambda c: (not c.of_humans, c.title))
    sections = [Section(c, i) for i, c in enumerate(comparisons, start=1)]
    begun = [f"Of **{name}** there is no run yet." for name in never_begun(words, runs)]
    blocks: list[Block] = [Heading(1, title), Text(f"{len(runs)} runs: {', '.join(f'`{word}`' for word in words)}.")]
    blocks += [Warn(text) for text in begun]
    blocks += [block for section in sections for block in section.blocks()]
    pages.write(blocks, title, out)
    pages.write_csv(out / "runs.csv", *run_rows(comparisons))
    pages.write_csv(out / "curves.csv", *curve_rows(comparisons))
    pages.write_csv(out / "aggregates.csv", *aggregate_rows(sections))
    said = [f"Note: {text}" for text in begun]
    for section in sections:
        said += [section.comparison.title, f"  {section.headline()}", *(f"  Note: {text}" for text in section.notes())]
    return "\n".join([*said, f"Written: {out / 'index.html'}, report.md, figures/, *.csv"]).replace("**", "")


def _check_games(games: Sequence[str], runs: Sequence[Labelled]) -> None:
    known = sorted({labelled.run.game for labelled in runs})
    for game in games:
        if game not in known:
            near = did_you_mean(game, known) or f": there are {', '.join(known)}."
            raise ConfigError(f"No run plays {game}{near}")


def main() -> None:
    """The `offpol-report` command."""
    parser = Parser(prog="offpol-report", description=DESCRIPTION)
    parser.add_argument("paths", nargs="+", metavar="[NAME=]PATH", help="runs, or folders above them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report is written")
    parser.add_argument("--title", default="Benchmark report", help="of the page")
    parser.add_argument("--games", default="", help="compare in these only, as in Pong,Breakout")
    parser.add_argument("--no-published", action="store_true", help="leave published agents out")
    with ending("offpol-report", "stopped; the runs are as they were"):
        args = parser.parse_args()
        games = [game.strip() for game in args.games.split(",") if game.strip()]
        say(report(args.paths, args.out, args.title, games, not args.no_published))


if __name__ == "__main__":
    main()
