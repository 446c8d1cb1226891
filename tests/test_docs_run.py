"""Every command of README and docs/ is run, and every script of benchmarks/: as written, but for how much is done.

How much is in tests/shown.py. What is not run is skipped by name, with the reason.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import shown
import torch
from command import Outcome, call
from test_docs import PROGRAMS, ROOT
from test_resume import interrupt_at

from offpol import main
from offpol.record.run_results import find_runs

COMMANDS = shown.commands()
RUNNERS = ("offpol", "offpol-bench", "benchmarks/study.py")
ONLY_TELL = {"--help", "--cfg", "--dry-run", "import"}
MY_ENV = """
import gymnasium
gymnasium.register("MyEnv-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=20)
"""


def test_every_command_is_run_or_excused_and_no_excuse_is_old() -> None:
    for text, words in COMMANDS.items():
        assert shown.program(words) or shown.excuse(words), f"neither run nor excused: {text}"
    for start in [*shown.NOT_HERE, *shown.NOT_OURS, *shown.BEFORE]:
        first = shlex.split(start)
        assert any(words[: len(first)] == first for words in COMMANDS.values()), f"shown no more: {start}"
    known = {word for each in COMMANDS.values() for word in each}
    for name in [*shown.NEEDS, *(key.split()[0] for key in shown.OPTIONS)]:
        assert name in known, f"shown no more: {name}"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default agent that was stopped, so that it can go on."""
    folder = tmp_path_factory.mktemp("stopped") / "a_run"
    size = (*shown.LEAST, *shown.SMALL, *shown.SHORT_GAMES, "run.keep_checkpoints=9")
    with pytest.MonkeyPatch.context() as patched:
        interrupt_at(144, patched)
        patched.setattr(sys, "argv", ["offpol", *size, f"hydra.run.dir={folder}"])
        with pytest.raises(SystemExit, match="130"):
            main.main()
    return folder


def lay_out(place: Path) -> Path:
    """Make what a reader's clone has and a script may write to."""
    for name in ("benchmarks", "docs"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "conf").symlink_to(ROOT / "conf")
    (place / "runs" / "published").mkdir(parents=True)
    return place


def run_apart(words: list[str], place: Path) -> Outcome:
    """Run a command in a process of its own."""
    name = shown.program(words)
    command = [sys.executable, name, *words[words.index(name) + 1 :]]
    if name in PROGRAMS:
        module, _, entry = PROGRAMS[name].partition(":")
        command[1:2] = ["-c", f"import sys; from {module} import {entry} as main; sys.exit(main())"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a folder that reports are made of, made when it is first asked for."""
    place = lay_out(tmp_path_factory.mktemp("shelf"))

    def fetch(folder: str) -> Path:
        if folder not in shown.MADE_BY:
            return ROOT / folder
        if not (place / folder).exists():
            for text in shown.MADE_BY[folder].split("&&"):
                words = shlex.split(text)
                for other in shown.reads(words):
                    fetch(other)
                outcome = run_apart(shown.least(words), place)
                assert outcome.code == 0, outcome.out + outcome.err
        return place / folder

    return fetch


@pytest.fixture
def desk(tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the docs suppose it: with a run, and a package of the reader's own."""
    place = lay_out(tmp_path / "desk")
    shutil.copytree(stopped, place / "a_run")
    (place / "my_package.py").write_text(MY_ENV)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place / "datasets"))
    monkeypatch.chdir(place)
    return place


def cases() -> Iterator:
    """List the commands, marked where they are not run, here or anywhere."""
    for text, words in COMMANDS.items():
        why = shown.excuse(words) or lacking(words)
        yield pytest.param(text, id=text, marks=[pytest.mark.skip(f"{text}: {why}")] if why else [])


def lacking(words: list[str]) -> str | None:
    """Return what this machine has not and a command needs."""
    modules = " ".join(shown.NEEDS[word] for word in {*words, *shown.reads(words)} & set(shown.NEEDS)).split()
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        return f"{missing[0]} is not installed"
    on_gpu = any(word.endswith("=cuda") or word == "benchmarks/gpu.py" for word in words)
    return "needs a GPU" if on_gpu and not torch.cuda.is_available() else None


@pytest.mark.slow
@pytest.mark.timeout(3600)  # of a busy machine
@pytest.mark.parametrize("text", list(cases()))
def test_it_runs(text: str, desk: Path, shelf, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    words = [shown.MEANT.get(word, word) for word in COMMANDS[text]]
    for folder in shown.reads(words):
        (desk / folder).parent.mkdir(parents=True, exist_ok=True)
        (desk / folder).symlink_to(shelf(folder))

    def run(words: list[str]) -> Outcome:
        name = shown.program(words)
        if name.startswith("benchmarks/") or name == "offpol-bench" or "topology=ray_workers" in words:
            return run_apart(words, desk)
        module, _, entry = PROGRAMS[name].partition(":")
        return call(
            getattr(importlib.import_module(module), entry), tuple(words[words.index(name) + 1 :]), monkeypatch, capfd
        )

    if text in shown.BEFORE:
        assert run(shown.least(COMMANDS[shown.BEFORE[text]])).code == 0
    before = set(desk.rglob("*"))
    words = shown.least(words)
    outcome = run(words)
    assert outcome.code == 0, f"{shlex.join(words)}\n{outcome.out}{outcome.err}"
    require_done(words, outcome, desk, set(desk.rglob("*")) - before)


def require_done(words: list[str], outcome: Outcome, desk: Path, new: set[Path]) -> None:
    """A command has said or written what it is for; runs are finished."""
    name, only_tells = shown.program(words), bool(ONLY_TELL & set(words))
    assert outcome.out.strip() if only_tells or name.startswith("benchmarks/") else new
    written = {words[i + 1] for i, word in enumerate(words) if word in ("--out", "--gif", "--export")}
    assert all(Path(desk / path).exists() for path in written)
    if name in RUNNERS and not only_tells:
        goes_on = any(word.startswith("resume=") for word in words)
        runs = [run for run in find_runs([desk]) if goes_on == (run.directory.name == "a_run")]
        assert runs
        assert all(run.finished for run in runs)
