"""`offpol-bench`: a suite of games x seeds x agents, some at a time, that survives interruption.

Runs are recognised by identity: finished ones are skipped, interrupted ones go on, failed ones are listed at the end.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from offpol import cpu
from offpol.bench.plan import Paces, Task, tasks
from offpol.bench.pool import Pool, reason
from offpol.bench.suite import NO_SUITE, expand, load_suite
from offpol.bench.view import View, plan_text, tell_of_other_code, total_text, verdict
from offpol.cli.ending import FAILED, STOPPED, Parser, ending
from offpol.errors import ConfigError, RunError
from offpol.output import say
from offpol.record.bench_plan import Entry, extend_plan
from offpol.record.run_directory import INFO, held, require_writable
from offpol.record.run_results import find_runs, read_run

OWN_WORDS = ("suite", "only", "jobs", "out")
LAUNCHER_KEYS = ("hydra/launcher", "hydra.launcher.")
POLL_S = 0.25
GO_ON = "The same command again goes on from the checkpoints."
UNKNOWN = 256  # of a run that may still go on
HELP = """\
Run a suite of games x seeds x agents.

  offpol-bench suite=s6 experiment=default,der seed=0,1,2     the grid of all values given
  offpol-bench suite=minatar trace=retrace,n_step jobs=4      four runs at a time
  offpol-bench suite=study_core only=retrace,old              a part of the grid that a suite has
  offpol-bench suite=smoke --dry-run                          what would run, and how long it would take
  offpol-bench experiment=cartpole seed=0,1,2,3,4             no suite: the experiment's own env
  offpol-bench suite=s6 hydra/launcher=submitit_slurm hydra.launcher.partition=gpu     on a cluster

The same command again goes on: finished runs are skipped, interrupted ones resumed, failed ones tried again.
"""


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    suite: str | None
    only: tuple[str, ...]  # names of the suite's grid; empty: all
    jobs: int
    out: Path
    overrides: tuple[str, ...]
    launcher: tuple[str, ...]  # overrides of Hydra's launcher; empty: processes of this machine
    config_dir: str | None
    dry_run: bool


def parse(arguments: Sequence[str]) -> Request:
    """Read the command line; raise ConfigError for a mistake."""
    parser = Parser(prog="offpol-bench", description=HELP)
    parser.add_argument("--dry-run", action="store_true", help="say what would run and how long it would take")
    parser.add_argument("--config-dir", help="a folder of further yaml, as for offpol")
    parser.add_argument(
        "words", nargs="+", metavar="KEY=VALUE",
        help="suite=NAME (of conf/suite, or of suite/ in --config-dir), only=NAME,... (of what its grid names), jobs=N "
        "(at a time; one per core), out=DIR (runs/bench/SUITE), and any override that offpol takes; several values, "
        "as in a,b, make a grid",
    )  # fmt: skip
    args = parser.parse_intermixed_args(arguments)
    given = [word.partition("=")[::2] for word in args.words if word.partition("=")[0] in OWN_WORDS]
    own = dict(given)
    for key, value in given:
        if not value:
            raise ConfigError(f"{key}= is empty: give it a value, or leave it out.")
        if [other for other, _ in given].count(key) > 1:
            raise ConfigError(f"{key}= is given twice: a bench has one.")
    rest = [word for word in args.words if word.partition("=")[0] not in own]
    launcher = tuple(word for word in rest if word.startswith(LAUNCHER_KEYS))
    suite = own.get("suite")
    return Request(
        suite, _names(own.get("only")), _jobs(own.get("jobs")),
        Path(own.get("out") or f"runs/bench/{suite or NO_SUITE.name}"),
        tuple(word for word in rest if word not in launcher), launcher, args.config_dir, args.dry_run,
    )  # fmt: skip


def _names(text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if text and not names:
        raise ConfigError(f"only={text} names nothing: write only=NAME,... of the suite's grid.")
    return names


def _jobs(text: str | None) -> int:
    if text is None:
        return cpu.cores()
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"jobs is {text}, but must be a whole number, at least 1.")
    return int(text)


class Bench:
    """The runs of one command: starts them, watches them, and ends with them."""

    def __init__(self, request: Request, todo: Sequence[Task], finished: int, paces: Paces) -> None:
        self.request, self.paces = request, paces
        self.waiting, self.finished = list(todo), finished
        self.failures: list[tuple[Task, str]] = []
        self.signals = 0
        self.pool = Pool()
        self.view = View(request.suite or NO_SUITE.name, len(todo) + finished)

    def launch(self) -> int:
        """Run everything through Hydra's launcher; return the exit code."""
        from offpol.bench.launcher import Runs, launch

        runs = Runs(tuple(self.waiting), self.request.config_dir)
        try:
            codes = launch(runs, self.request.launcher, self.request.out)
        except KeyboardInterrupt:
            self.view.say(f"Stopped waiting; jobs of a cluster stay in its queue. {GO_ON}")
            return STOPPED
        except RunError as error:
            self.view.say(f"{error} Other jobs may still run: see the queue before the same command again.")
            codes = [UNKNOWN] * len(runs.tasks)
        for task, code in zip(self.waiting, codes, strict=True):
            self._end(task, code, task.log)
        return self._verdict()

    def run(self) -> int:
        """Run everything in processes of this machine; return the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        asked = 0
        while self.pool.children or (self.waiting and not self.signals):
            if self.signals > asked:
                self._stop(first=asked == 0)
                asked = self.signals
            while not self.signals and self.waiting and len(self.pool.children) < self.request.jobs:
                self._start(self.waiting.pop(0))
            for task, code, log in self.pool.ended():
                self._end(task, code, log)
            running = [child.task for child in self.pool.children]
            self.view.show(running, self.waiting, self.finished, len(self.failures), self.paces, self.request.jobs)
            time.sleep(POLL_S)
        if self.signals:
            self.view.say(f"Stopped. {GO_ON}")
            return STOPPED
        return self._verdict()

    def _verdict(self) -> int:
        self.view.say(verdict(self.failures, self.request.out))
        return FAILED if self.failures else 0

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def _stop(self, first: bool) -> None:
        if first:
            self.view.say("Asking the runs to save themselves and end; once more kills them.")
            self.pool.ask_to_end()
        else:
            self.pool.kill()

    def _start(self, task: Task) -> None:
        arguments = task.arguments(*self._threads(), config_dir=self.request.config_dir)
        self.pool.start(task, arguments, task.log)
        if not self.view.is_terminal:
            self.view.say(f"{'goes on' if task.state == 'resume' else 'starts'}: {task.name}  ({task.directory})")

    def _threads(self) -> list[str]:
        """Give runs beside each other one thread each, unless told otherwise: more would take turns, or spin."""
        key = "run.torch_threads"
        told = any(text.startswith(f"{key}=") for text in self.request.overrides)
        return [] if told or self.request.jobs == 1 else [f"{key}=1"]

    def _end(self, task: Task, code: int, log: Path) -> None:
        if (task.directory / INFO).is_file():
            run = read_run(task.directory)
            self.paces.add(run)
            if run.finished:
                self.finished += 1
                score = run.score("final_evaluation")
                self.view.say(f"finished: {task.name}" + ("" if score is None else f", final score {score:.2f}"))
                return
        if not self.signals:
            why = f"{'not finished yet: ' if code == UNKNOWN else ''}{reason(code, log)}"
            self.failures.append((task, why))
            self.view.say(f"failed: {task.name}: {why}")


def bench(request: Request) -> int:
    """Do what was asked for; return the exit code."""
    suite = (load_suite(request.suite, request.config_dir) if request.suite else NO_SUITE).only(request.only)
    jobs = expand(suite, request.overrides, request.config_dir)
    at_a_time = None if request.launcher else request.jobs
    if request.dry_run:
        found = list(find_runs([request.out]))
        planned = tasks(jobs, found, request.out)
        say(plan_text(planned, Paces(found), at_a_time))
        tell_of_other_code(planned)
        return 0
    require_writable(request.out, "name another folder with out=...")
    request.out.mkdir(parents=True, exist_ok=True)
    refusal = f"Another offpol-bench works in {request.out}: wait for it, or choose another out=."
    with held(request.out / ".lock", refusal):
        found = list(find_runs([request.out]))
        planned, paces = tasks(jobs, found, request.out), Paces(found)
        todo = [task for task in planned if task.state != "finished"]
        entries = [Entry(job.label, job.cfg, job.game, job.seed) for job in jobs]
        extend_plan(request.out, suite.name, entries)
        say(total_text(planned, paces, at_a_time))
        tell_of_other_code(planned)
        runner = Bench(request, todo, len(planned) - len(todo), paces)
        return runner.launch() if request.launcher and todo else runner.run()


def main() -> None:
    """The `offpol-bench` command; it fails where one of its runs does."""
    with ending("offpol-bench", "stopped before any run began"):  # once there are runs, signals are theirs
        sys.exit(bench(parse(sys.argv[1:])))


if __name__ == "__main__":
    main()
