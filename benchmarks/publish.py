"""Copy what is small of a finished bench, so that it can be kept in the repository, and make its report.

    python benchmarks/publish.py runs/bench/minatar runs/published/minatar

Of every run stay its config, where it comes from, the final games' scores, every training game (episodes.csv, packed),
a few rows of metrics and what offpol-inspect saw; no checkpoint, no replay. `offpol-report runs/published/minatar --out
DIR` makes from that the tables of scores that the bench itself makes. Runs that are not finished stay behind, and the
report names them as missing. The same command again brings what has been finished since.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from offpol.errors import ConfigError
from offpol.record.bench_plan import PLAN, Entry, extend_plan
from offpol.record.run_directory import CONFIG, INFO, INSPECT, INSPECTED, write_json
from offpol.record.run_labels import collect, named
from offpol.record.run_results import RunResult
from offpol.report.command import report

ROWS = 100  # of metrics that are kept of a run: all of them at the cadences of most suites
DIGITS = 6  # of every metric


def publish(bench: Path, to: Path) -> tuple[int, int]:
    """Copy the finished runs of a bench; return how many there are, and how many runs are not finished."""
    found = named(collect([str(bench)]))
    runs = [labelled.run for labelled in found]
    finished = [run for run in runs if run.finished]
    if not finished:
        raise ConfigError(f"None of the {len(runs)} runs in {bench} is finished: there is nothing to publish yet.")
    if any("published" in run.info for run in finished):
        raise ConfigError(f"{bench} holds runs that were published already: give the folder that they came from.")
    for run in finished:
        keep(run, to / run.directory.relative_to(bench))
    if (bench / PLAN).is_file():
        shutil.copyfile(bench / PLAN, to / PLAN)
    else:  # what was begun, so that the report can name what is missing
        extend_plan(to, bench.name, [Entry(one.agent, one.run.cfg, one.run.game, one.run.seed) for one in found])
    return len(finished), len(runs) - len(finished)


def keep(run: RunResult, to: Path) -> None:
    """Write down one run."""
    to.mkdir(parents=True, exist_ok=True)
    (to / CONFIG).write_text((run.directory / CONFIG).read_text())
    info = {**without_folders(run.info), "command": command(run.info["command"])}
    info["resumed"] = [without_folders(each) for each in info.get("resumed", ())]
    write_json(to / INFO, {**info, "published": {"agent_steps": run.reached}})
    if run.evaluation:
        write_json(to / "evaluation.json", run.evaluation)
    if run.inspected:
        (to / INSPECT).mkdir(exist_ok=True)
        shutil.copyfile(run.directory / INSPECT / INSPECTED, to / INSPECT / INSPECTED)
    pack(to / "episodes.csv", (run.directory / "episodes.csv").read_text())
    rows = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    pack(to / "metrics.jsonl", "".join(json.dumps(rounded(row)) + "\n" for row in thinned(rows)))


def command(words: list[str]) -> list[str]:
    """Return a command without the folders of the machine that it was given on."""
    return [Path(words[0]).name, *(word for word in words[1:] if not word.startswith("hydra.run.dir="))]


def without_folders(record: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of where a run comes from, or of how it went on, without the folders of one's own code."""
    code = {part: {**known, "file": Path(known["file"]).name} for part, known in record.get("own_code", {}).items()}
    return {**record, "own_code": code}


def thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep every so many rows, the last one among them."""
    every = -(-len(rows) // ROWS) or 1
    return rows[::-1][::every][::-1]


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Keep the digits that matter; whole numbers stay whole."""
    return {key: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for key, value in row.items()}


def pack(path: Path, text: str) -> None:
    """Write a file, compressed: the same text always gives the same bytes."""
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="the folder of a bench, or of any runs")
    parser.add_argument("to", type=Path, help="runs/published/NAME")
    args = parser.parse_args()
    try:
        finished, others = publish(args.bench, args.to)
    except ConfigError as error:
        raise SystemExit(f"publish: {error}") from None
    print(report([str(args.to)], args.to / "report", f"Benchmark: {args.to.name}", [], True))
    size = sum(path.stat().st_size for path in args.to.rglob("*") if path.is_file())
    print(f"{finished} runs in {size / 1e6:.1f} MB; {others} that are not finished were left out.")


if __name__ == "__main__":
    main()
