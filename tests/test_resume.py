"""A run that is killed and goes on is the run that was never killed, bit for bit."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import torch
from command import TINY, Outcome, call

from offpol import main, training
from offpol.record import checkpoint, provenance, run_directory
from offpol.run import Run

Command = Callable[..., Outcome]
JOB = (*TINY, "replay=prioritized", "behavior=epsilon_policy", "network.widths=[8]")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["offpol", *JOB, f"hydra.run.dir={folder}"])
        main.main()
    return folder


@pytest.fixture
def offpol(tmp_path, monkeypatch, capfd) -> Command:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(main.main, arguments, monkeypatch, capfd)


def interrupt_at(agent_steps: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGINT) -> None:
    """Send this process a signal in the middle of the step that reaches so many agent steps."""
    count = Run.count

    def counting(self, rows, episodes) -> None:
        before = self.agent_steps
        count(self, rows, episodes)
        if before < agent_steps <= self.agent_steps:
            signal.raise_signal(number)

    monkeypatch.setattr(Run, "count", counting)


def same(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):  # a metric may be NaN where nothing was to be averaged
        return first.dtype == second.dtype and torch.equal(first.isnan(), second.isnan()) and torch.equal(
            first.nan_to_num(), second.nan_to_num())  # fmt: skip
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def metrics(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("machine/")} for line in lines]


def rows_of(segments: list[dict]) -> dict:
    """Join the segments of a replay's rows: what it holds must not depend on when they were saved."""
    rows: dict = {}
    for segment in segments:
        start, stop = segment["start"].tolist(), segment["stop"].tolist()
        names = [(stream, row) for stream in range(len(start)) for row in range(start[stream], stop[stream])]
        for stream, first in enumerate(start):
            if (stream, first - 1) in rows:
                rows[stream, first - 1]["valid"] = segment["valid_before"][stream]
        fields = segment.keys() - {"start", "stop", "oldest", "valid_before", "stack"}
        rows |= {name: {field: segment[field][i] for field in fields} for i, name in enumerate(names)}
    oldest = segments[-1]["oldest"].tolist()
    return {(stream, row): fields for (stream, row), fields in rows.items() if row >= oldest[stream]}


def assert_same_run(first: Path, second: Path) -> None:
    """Parameters, optimizer, priorities, random numbers, env, metrics and scores are equal."""
    states = [checkpoint.load_newest(folder / "checkpoints").state for folder in (first, second)]
    for state in states:
        del state["run"]["wall_s"], state["run"]["logger"]
        state["replay"]["rows"] = rows_of(state["replay"]["rows"])
    assert states[0].keys() == states[1].keys()
    assert [name for name in states[0] if not same(states[0][name], states[1][name])] == []
    assert metrics(first) == metrics(second)
    for name in ("episodes.csv", "config.yaml", "evaluation.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("at", [30, 222, 333])  # before learning, between checkpoints, and close to the end
def test_interrupted_and_resumed_is_the_same_run(whole: Path, offpol: Command, tmp_path, monkeypatch, at: int) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(at, patched)
        stopped = offpol(*JOB, "hydra.run.dir=run")
    assert stopped.code == 130
    assert "Go on: offpol resume=run" in stopped.out
    done = offpol("resume=run")
    assert done.code == 0, done.err
    assert_same_run(whole, tmp_path / "run")
    info = json.loads((tmp_path / "run" / "info.json").read_text())
    assert len(info["resumed"]) == 1
    assert at <= info["resumed"][0]["agent_steps"] < at + 4


def test_killed_without_warning_and_resumed_is_the_same_run(whole: Path, offpol: Command, tmp_path) -> None:
    script = """
import os, signal, sys
from offpol.main import main
from offpol.run import Run
count = Run.count
def counting(self, rows, episodes):
    count(self, rows, episodes)
    if self.agent_steps > 260:
        os.kill(os.getpid(), signal.SIGKILL)
Run.count = counting
main()
"""
    command = [sys.executable, "-c", script, *JOB, "hydra.run.dir=run"]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = offpol("resume=run")
    assert done.code == 0, done.err
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_atari_run_too(offpol: Command, tmp_path, monkeypatch) -> None:
    job = (
        "env.game=Breakout", "run.agent_steps=900", "run.learning_starts_agent_steps=400", "run.replay_ratio=0.1",
        "replay.capacity=3000", "run.log_every_agent_steps=100", "run.eval_episodes=1",
    )  # fmt: skip
    assert offpol(*job, "hydra.run.dir=whole").code == 0
    with monkeypatch.context() as patched:
        interrupt_at(650, patched)
        assert offpol(*job, "hydra.run.dir=run").code == 130
    assert offpol("resume=run").code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_sigterm_saves_too(offpol: Command, tmp_path, monkeypatch) -> None:
    interrupt_at(100, monkeypatch, signal.SIGTERM)
    assert offpol(*JOB, "hydra.run.dir=run").code == 128 + signal.SIGTERM
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").about["agent_steps"] >= 100


def test_asked_to_end_in_its_last_step_a_run_leaves_its_evaluation_for_later(offpol, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(400, patched, signal.SIGTERM)
        assert offpol(*JOB, "hydra.run.dir=run").code == 128 + signal.SIGTERM
    assert not (tmp_path / "run" / "evaluation.json").exists()
    assert offpol("resume=run").code == 0
    assert (tmp_path / "run" / "evaluation.json").exists()
    assert "is finished" in offpol("resume=run").out
    before = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    other = before["episodes"] + 2
    again = offpol("resume=run", f"run.eval_episodes={other}")
    assert "evaluation " in again.out
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (result["episodes"], result["agent_steps"]) == (other, before["agent_steps"])
    finished = offpol("resume=run", "run.log_every_agent_steps=7").out
    assert "is finished" in finished
    assert "so nothing was changed (run.log_every_agent_steps)" in finished


def test_nobody_goes_on_with_a_run_that_is_being_evaluated(offpol, tmp_path, monkeypatch) -> None:
    play, refused = training.finish, []

    def slow(cfg, run, agent):
        refused.append(offpol("resume=run", "run.agent_steps=900"))
        return play(cfg, run, agent)

    with monkeypatch.context() as patched:
        patched.setattr(training, "finish", slow)
        assert offpol(*JOB, "hydra.run.dir=run").code == 0
    assert refused[0].code == 2
    assert "is being written by another process" in refused[0].err


def test_all_processes_of_a_finished_run_know_that_it_is(whole: Path, monkeypatch) -> None:
    """Those that help would wait for the first one, which is gone."""
    monkeypatch.chdir(whole.parent)
    assert main._shared_config([f"resume={whole.name}"]) is None
    assert main._shared_config([f"resume={whole.name}", "run.agent_steps=900"])["run"]["agent_steps"] == 900


def test_a_damaged_checkpoint_costs_only_what_came_after_the_one_before(
    whole: Path, offpol: Command, tmp_path, monkeypatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(350, patched)
        offpol(*JOB, "hydra.run.dir=run")
    newest = max((tmp_path / "run" / "checkpoints").glob("0*"))
    (newest / "replay.pt").write_bytes((newest / "replay.pt").read_bytes()[:-100])
    done = offpol("resume=run")
    assert done.code == 0
    assert f"checkpoint {newest.name} is damaged (replay.pt has" in done.err
    assert_same_run(whole, tmp_path / "run")


def test_a_run_goes_on_only_as_it_began(offpol: Command, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(100, patched)
        offpol(*JOB, "hydra.run.dir=run")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    refused = offpol("resume=run", "agent.gamma=0.5", "trace.lambda_=0.3", "agent.batch_size=4", "run.agent_steps=800")
    assert refused.code == 2
    assert "to change agent.gamma (was 0.99), trace.lambda_ (was 0.95)." in refused.err
    assert "batch_size" not in refused.err
    assert offpol("resume=run", "run.agent_steps=8e2").err == (
        "offpol: run.agent_steps is 800.0, but must be a whole number: write 800.\n"
    )
    for steps in (96, 30):  # 30: fewer than learning starts at, too
        shorter = offpol("resume=run", f"run.agent_steps={steps}").err
        assert f"run.agent_steps is {steps}, but the run has played 10" in shorter
        assert shorter.endswith("leave it out, or play longer.\n")
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_ctrl_c_during_the_last_checkpoint_is_heeded(whole: Path, offpol: Command, tmp_path, monkeypatch) -> None:
    save = Run.save

    def saving(self, state) -> None:
        if self.agent_steps >= 400:
            signal.raise_signal(signal.SIGINT)
        save(self, state)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "save", saving)
        stopped = offpol(*JOB, "hydra.run.dir=run")
    assert stopped.code == 130
    assert not (tmp_path / "run" / "evaluation.json").exists()
    assert offpol("resume=run").code == 0
    assert_same_run(whole, tmp_path / "run")


def test_a_config_that_was_edited_since_is_refused(offpol: Command, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(100, patched)
        offpol(*JOB, "hydra.run.dir=run")
    path = tmp_path / "run" / "config.yaml"
    written = path.read_text()
    assert written.count("gamma: 0.99") == 1
    path.write_text(written.replace("gamma: 0.99", "gamma: 0.5").replace("\nseed: 0", "\nseed: 7"))
    refused = offpol("resume=run")
    assert refused.code == 2
    assert "was changed by hand since it began" in refused.err
    assert "put back agent.gamma (was 0.99), seed (was 0), or begin" in refused.err
    path.write_text(written.replace("agent_steps: 400", "agent_steps: 420"))  # which may change
    assert offpol("resume=run").code == 0


def test_what_goes_on_but_not_bit_for_bit_says_so(offpol: Command, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(100, patched)
        offpol(*JOB, "hydra.run.dir=run")
    path = tmp_path / "run" / "info.json"
    info = json.loads(path.read_text())
    info["versions"]["torch"], info["machine"]["cpu"] = "2.0", "another"
    path.write_text(json.dumps(info))
    said = offpol("resume=run", "run.torch_threads=2", "replay.storage=memmap").err
    ours = f"run.torch_threads=2, torch={metadata.version('torch')}, cpu={provenance.describe(0)['machine']['cpu']}"
    assert f"offpol: It goes on, but not bit for bit as if never stopped: {ours}.\n" in said


def test_a_longer_run_that_was_stopped_while_it_was_evaluated_is_not_finished(
    offpol: Command, tmp_path, monkeypatch
) -> None:
    assert offpol(*JOB, "run.agent_steps=200", "hydra.run.dir=run").code == 0
    before = (tmp_path / "run" / "evaluation.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(training, "finish", lambda *_: None)  # as if killed there
        offpol("resume=run", "run.agent_steps=300")
    assert (tmp_path / "run" / "evaluation.json").read_bytes() == before
    assert offpol("resume=run").code == 0
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert result["agent_steps"] == metrics(tmp_path / "run")[-1]["agent_steps"]
    assert "run is finished" in offpol("resume=run").out


@pytest.mark.parametrize("folder", ["a folder, seed=0", "grün 'x'"])
def test_what_is_said_to_go_on_can_be_typed(offpol: Command, tmp_path, monkeypatch, folder: str) -> None:
    quoted = '"' + folder + '"'
    with monkeypatch.context() as patched:
        interrupt_at(100, patched)
        stopped = offpol(*JOB, f"hydra.run.dir={quoted}")
    (said,) = [line for line in stopped.out.splitlines() if "Go on" in line]
    _, command = said.split("Go on: offpol ")
    assert offpol(*shlex.split(command), "run.eval_episodes=0").code == 0
    assert metrics(tmp_path / folder)[-1]["agent_steps"] >= 400


def test_a_mistyped_key_of_a_run_that_goes_on(offpol: Command, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(100, patched)
        offpol(*JOB, "hydra.run.dir=run")
    assert "There is no key 'run.agent_step': did you mean" in offpol("resume=run", "run.agent_step=800").err
    refused = offpol("resume=run", "trace=n_step")
    assert refused.err == "offpol: A run goes on with the parts that it began with: leave out trace.\n"
    refused = offpol("resume=run", "task=chain", "hydra.run.dir=other")
    assert refused.err == "offpol: A run goes on with the parts that it began with: leave out task, hydra.run.dir.\n"


def test_a_finished_run_says_so_and_can_be_made_longer(offpol: Command, tmp_path) -> None:
    assert offpol(*JOB, "run.eval_episodes=0", "run.agent_steps=200", "hydra.run.dir=run").code == 0
    again = offpol("resume=run")
    assert again.code == 0
    assert "run is finished: 20" in again.out
    assert offpol("resume=run", "run.agent_steps=300").code == 0
    assert metrics(tmp_path / "run")[-1]["agent_steps"] >= 300
    assert "run is finished: 30" in offpol("resume=run").out


@pytest.mark.parametrize("name", ["info.json", "evaluation.json"])  # written first, and last
def test_a_disk_that_is_full_when_a_run_goes_on_is_told(offpol: Command, monkeypatch, name: str) -> None:
    write = run_directory.write_text

    def full(path: Path, text: str) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, text)

    with monkeypatch.context() as patched:
        interrupt_at(300, patched)
        assert offpol(*JOB, "hydra.run.dir=run").code == 130
    with monkeypatch.context() as patched:
        patched.setattr(run_directory, "write_text", full)
        outcome = offpol("resume=run")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert "No space left on device. Make room; the checkpoint at" in outcome.err
    assert outcome.err.endswith("is whole: offpol resume=run\n")
    assert offpol("resume=run").code == 0


def test_stopped_at_once_by_a_second_signal(offpol: Command, tmp_path, monkeypatch) -> None:
    count = Run.count

    def impatient(self, rows, episodes) -> None:
        count(self, rows, episodes)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "count", impatient)
    outcome = offpol(*JOB, "hydra.run.dir=run")
    assert outcome.code == 130
    assert "stopped at once" in outcome.err
    assert "there is none yet" in offpol("resume=run").err
