"""Run a part of the study of docs/study.md on MinAtar; the same command again goes on.

    python benchmarks/study.py core --dry-run      # what would run, and how long it would take
    python benchmarks/study.py core                # operators x {fresh, old} data
    python benchmarks/study.py frozen              # very old data: the replay of another agent
    python benchmarks/study.py frozen only=retrace,one_step,ladder      # a part of it, by the names of the suite's grid
    python benchmarks/study.py full --jobs 2       # all operators, fresh and old data, all behaviors
    python benchmarks/study.py lambda              # three of them, each with another's lambda

Each part is the suite study_PART of `offpol-bench`, in runs/study/PART; `frozen` first runs suite study_sources, the
agents whose replays stand still. To be called in the root of the repository, as the suites name runs/study. Tables and
figures: python benchmarks/study_report.py runs/study/core --name core
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from offpol.bench.command import bench, parse
from offpol.bench.suite import expand, load_suite
from offpol.errors import ConfigError
from offpol.record.run_labels import collect, named

ROOT = Path("runs/study")
FROZEN = ROOT / "frozen_replays"  # a link for each behavior, to the run whose replay stands still


def link_sources() -> None:
    """Let the suite find each source by its behavior."""
    FROZEN.mkdir(parents=True, exist_ok=True)
    for labelled in named(collect([str(ROOT / "sources")])):
        link = FROZEN / labelled.agent
        if labelled.run.finished and not link.is_symlink():
            link.symlink_to(os.path.relpath(labelled.run.directory, FROZEN), target_is_directory=True)


def of_sources(words: list[str]) -> list[str]:
    """Keep of a command line for the frozen part what its sources are to know: neither seeds nor operators."""
    (behaviors,) = load_suite("study_sources").grid
    only = [name for word in words if word.startswith("only=") for name in word[5:].split(",") if name in behaviors]
    return [word for word in words if not word.startswith(("seed=", "only="))] + [f"only={','.join(only)}"] * bool(only)


def main() -> None:
    """Read the command line and run the part; exit code as offpol-bench's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("core", "frozen", "full", "lambda"))
    parser.add_argument("--jobs", type=int, help="runs at a time (one per core)")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and how long it would take")
    parser.add_argument("overrides", nargs="*", help="for offpol-bench, as in seed=0 only=retrace")
    args = parser.parse_intermixed_args()
    more = [*args.overrides, *([f"jobs={args.jobs}"] if args.jobs else []), *(["--dry-run"] if args.dry_run else [])]
    try:
        sys.exit(run(args.part, more, args.dry_run))
    except ConfigError as error:
        raise SystemExit(f"study: {error}") from None


def run(part: str, more: list[str], dry_run: bool) -> int:
    """Run a part, and first, for the frozen one, its sources; return the exit code."""
    asked = parse([f"suite=study_{part}", f"out={ROOT / part}", *more])
    suite = load_suite(f"study_{part}").only(asked.only)
    expand(suite, asked.overrides)  # mistakes are told before the sources are trained
    code = 0
    if part == "frozen":
        code = bench(parse(["suite=study_sources", f"out={ROOT / 'sources'}", *of_sources(more)]))
        if code == 0 and not dry_run:
            link_sources()
    return code or bench(asked)


if __name__ == "__main__":
    main()
