"""Every command ends alike: a sentence and its exit code for what a person can mend, a traceback for a bug."""

import errno
import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from command import Outcome, call

from offpol.config import conf_dir
from offpol.errors import ConfigError, RunError

PROGRAMS: dict[str, str] = tomllib.loads((conf_dir().parent / "pyproject.toml").read_text())["project"]["scripts"]
WORK = {  # what does a command's work, words with which it gets there, and words that name a folder which is not there
    "offpol": ("offpol.main.launch", [], ["resume=nowhere"]),
    "offpol-eval": ("offpol.cli.evaluate_command._evaluate", ["run"], ["nowhere"]),
    "offpol-bench": ("offpol.bench.command.bench", ["suite=smoke"], ["suite=smoke", "--config-dir", "nowhere"]),
    "offpol-inspect": ("offpol.inspect.command._inspect", ["run"], ["nowhere"]),
    "offpol-replay": ("offpol.inspect.replay_contents.show", ["run"], ["nowhere"]),
    "offpol-report": ("offpol.report.command.report", ["runs", "--out", "x"], ["nowhere", "--out", "x"]),
    "offpol-minari": ("offpol.minari.export_dataset", ["export", "run", "id"], ["export", "nowhere", "id"]),
    "offpol-tabular": ("offpol.tabular.survey", [], ["--output", "/proc/nowhere/figure.png"]),
}
every_program = pytest.mark.parametrize("program", PROGRAMS)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd) -> Callable[..., Outcome]:
    """Run a program in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(program: str, *words: str) -> Outcome:
        module, _, name = PROGRAMS[program].partition(":")
        return call(getattr(importlib.import_module(module), name), words, monkeypatch, capfd)

    return run


def in_a_sentence(program: str, outcome: Outcome) -> bool:
    return outcome.err.startswith(f"{program}: ") and outcome.err.count("\n") == 1


@every_program
def test_a_mistake_is_told_in_a_sentence(program: str, run: Callable[..., Outcome], tmp_path: Path) -> None:
    _, words, nowhere = WORK[program]
    for mistake in (["--no-such-option", *words], nowhere):
        outcome = run(program, *mistake)
        assert (outcome.code, outcome.out) == (2, "")
        assert in_a_sentence(program, outcome), outcome.err
        assert "no-such-option" in outcome.err or "nowhere" in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [(["offpol-minari", "import", "breakout"], "write it with a version, as in breakout/offpol-v0"),
     (["offpol-minari", "export", ".", "a b-v0"], ". is no run"),
     (["offpol-tabular", "--window", "8"], "--window must be at most 7, but is 8"),
     (["offpol-tabular", "--output", "figure"], "must be a file that ends in .png, .svg, .pdf")],
)  # fmt: skip
def test_what_would_fail_late_or_never_end_is_told(words: list[str], said: str, run: Callable[..., Outcome]) -> None:
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert in_a_sentence(words[0], outcome)
    assert said in outcome.err


@every_program
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(ConfigError("what it was."), 2, "what it was."), (RunError("what happened."), 1, "what happened."),
     (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "f"), 1, "f cannot be written (No space left on device)"),
     (KeyboardInterrupt(), 130, "stopped")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_ends_it_gives_the_exit_code(program, error, code, said, run, monkeypatch) -> None:
    work, words, _ = WORK[program]
    monkeypatch.setattr(work, raising(error))
    outcome = run(program, *words)
    assert outcome.code == code
    assert in_a_sentence(program, outcome), outcome.err
    assert outcome.err.startswith(f"{program}: {said}")


def test_help_and_a_wrong_word_do_not_wait_for_torch(tmp_path: Path) -> None:
    script = """
import importlib, sys
for program in sys.argv[1:]:
    module, _, name = program.partition(":")
    main = getattr(importlib.import_module(module), name)
    for word in ("--help", "--no-such-option"):
        sys.argv = ["command", word]
        try:
            main()
        except SystemExit:
            pass
        assert "torch" not in sys.modules, program
"""
    command = [sys.executable, "-c", script, *PROGRAMS.values()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(PROGRAMS)


@every_program
def test_a_bug_keeps_its_traceback(program: str, run: Callable[..., Outcome], monkeypatch) -> None:
    work, words, _ = WORK[program]
    monkeypatch.setattr(work, raising(ZeroDivisionError("of mine")))
    with pytest.raises(ZeroDivisionError, match="of mine"):
        run(program, *words)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def work(*_: object) -> NoReturn:
        raise error

    return work
