"""A run that goes wrong ends with one sentence, the evidence and a checkpoint that is whole."""

import errno
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command import TINY, Outcome, call
from test_resume import JOB, assert_same_run

from offpol import deadline, main
from offpol.actor import Actor
from offpol.agent import Agent
from offpol.env.chain import Chain
from offpol.guard import Guard, NotFinite
from offpol.record import checkpoint, checkpoint_files

TOPOLOGIES = pytest.mark.parametrize("topology", ["sync", "threads"])


@pytest.fixture
def offpol(tmp_path, monkeypatch, capfd) -> Callable[..., Outcome]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(main.main, arguments, monkeypatch, capfd)


def spoil(owner: type, name: str, at_call: int, change: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pass what a method returns in one of its calls through `change`."""
    method, calls = getattr(owner, name), []

    def spoiled(self, *args, **kwargs):
        calls.append(1)
        result = method(self, *args, **kwargs)
        return change(self, result) if len(calls) == at_call else result

    monkeypatch.setattr(owner, name, spoiled)


def one_sentence(outcome: Outcome) -> str:
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("offpol: ")]
    return line


def bad_loss(agent: Agent, targets: tuple) -> tuple:
    inputs, traced, learned = targets
    return inputs, traced, learned * torch.nan


def bad_returns(agent: Agent, targets: tuple) -> tuple:
    inputs, traced, learned = targets
    return inputs, traced._replace(returns=traced.returns * torch.nan), learned * torch.nan


@TOPOLOGIES
def test_a_loss_that_is_not_finite_stops_the_run(offpol, monkeypatch, tmp_path, topology: str) -> None:
    job = (*JOB, f"topology={topology}")
    assert offpol(*job, "hydra.run.dir=whole").code == 0
    with monkeypatch.context() as patched:
        spoil(Agent, "_targets", 50, bad_loss, patched)
        sentence = one_sentence(offpol(*job, "hydra.run.dir=run"))
    assert "of update 50 are not finite, at agent step 26" in sentence
    assert "the checkpoint at 20" in sentence
    evidence = torch.load("run/offending_batch.pt", weights_only=True)
    assert evidence["updates"] == 50
    assert evidence["batch"]["obs"].shape[:2] == (4, 6)
    assert evidence["agent"]["updates"] == 50
    assert evidence["agent"]["optimizer"]["state"][0]["step"] == 49  # the 50th changed nothing
    assert all(values.isfinite().all() for values in evidence["agent"]["network"].values())
    state = checkpoint.load_newest(Path("run/checkpoints")).state
    assert all(values.isfinite().all() for values in state["agent"]["network"].values())
    assert offpol("resume=run").code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_parameter_that_is_not_finite_is_found_before_anything_is_saved(offpol, monkeypatch) -> None:
    def break_it(agent, update):
        agent.parameters[0].data.view(-1)[0] = torch.nan
        return update

    spoil(Agent, "update", 85, break_it, monkeypatch)  # the last
    sentence = one_sentence(offpol(*JOB, "hydra.run.dir=run"))
    assert "A parameter is not finite after update 85" in sentence
    assert "batch" in torch.load("run/offending_batch.pt", weights_only=True)
    assert checkpoint.load_newest(Path("run/checkpoints")).about["agent_steps"] < 300


@TOPOLOGIES
@pytest.mark.parametrize(("field", "name"), [("obs", "an observation"), ("reward", "a reward")])
def test_an_env_that_delivers_nan_is_named(offpol, monkeypatch, topology: str, field: str, name: str) -> None:
    def change(env, step):
        values = getattr(step, field).copy()
        values[2] = np.nan
        return step._replace(**{field: values})

    spoil(Chain, "step", 20, change, monkeypatch)
    sentence = one_sentence(offpol(*JOB, f"topology={topology}", "hydra.run.dir=run"))
    assert f"Chain-8 delivered {name} that is not finite, in env 2, at agent step " in sentence
    assert "there is no checkpoint yet" in sentence
    evidence = torch.load("run/offending_batch.pt", weights_only=True)["env_step"]
    assert evidence[field][2].isnan().all()
    assert evidence["obs_before"].isfinite().all()


@pytest.mark.parametrize("topology", ["sync", "threads", "threads topology.max_policy_lag=0"])
def test_envs_that_hang_while_they_are_closed_hide_no_error(offpol, monkeypatch, topology: str) -> None:
    def change(env, step):
        return step._replace(reward=np.full_like(step.reward, np.nan))

    over = threading.Event()
    monkeypatch.setattr(deadline, "BROKEN_CLOSE_S", 0.1)
    monkeypatch.setattr(Actor, "close", lambda actor: over.wait(60))
    spoil(Chain, "step", 20, change, monkeypatch)
    job = (*JOB, *f"topology={topology}".split(), "topology.deadline_s=2")
    sentence = one_sentence(offpol(*job, "hydra.run.dir=run"))
    over.set()
    assert "Chain-8 delivered a reward that is not finite" in sentence
    assert "env_step" in torch.load("run/offending_batch.pt", weights_only=True)


@pytest.mark.parametrize("replay", ["prioritized", "uniform"])
def test_on_another_device_too_the_evidence_is_saved(offpol, monkeypatch, replay: str) -> None:
    """Where priorities are of the host, they are what is first seen to be not finite."""
    update = Agent.update

    def elsewhere(agent: Agent, batch, measure: bool = False):
        answer = update(agent, batch, measure)
        return answer._replace(finite=Elsewhere(bool(answer.finite), []))

    monkeypatch.setattr(Agent, "update", elsewhere)
    spoil(Agent, "_targets", 50, bad_returns, monkeypatch)
    sentence = one_sentence(offpol(*JOB, f"replay={replay}", "hydra.run.dir=run"))
    number = int(sentence.split(" is not finite")[0].rpartition(" ")[2])
    assert number == 50 if replay == "prioritized" else number > 50
    assert torch.load("run/offending_batch.pt", weights_only=True)["updates"] == number


@TOPOLOGIES
def test_a_first_observation_that_is_not_finite_names_the_env(offpol, monkeypatch, topology: str) -> None:
    def change(env, obs):
        obs[3] = np.nan
        return obs

    spoil(Chain, "reset", 1, change, monkeypatch)
    sentence = one_sentence(offpol(*JOB, f"topology={topology}", "hydra.run.dir=run"))
    assert "Chain-8 delivered a first observation that is not finite, in env 3, at agent step 0" in sentence
    evidence = torch.load("run/offending_batch.pt", weights_only=True)["env_step"]
    assert evidence["obs"][3].isnan().all()


def test_a_dead_env_names_itself(offpol, monkeypatch) -> None:
    def die(env, step):
        raise OSError("the emulator broke")

    spoil(Chain, "step", 60, die, monkeypatch)
    outcome = offpol(*JOB, "hydra.run.dir=run")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "OSError: the emulator broke\nChain-8 raised this at agent step 2" in outcome.err
    assert "the checkpoint at 20" in outcome.err
    assert "is whole: offpol resume=run" in outcome.err


@TOPOLOGIES
def test_a_full_disk_ends_the_run_in_one_sentence_and_costs_nothing(offpol, monkeypatch, tmp_path, topology) -> None:
    job = (*JOB, f"topology={topology}", "run.checkpoint_every_agent_steps=100")
    assert offpol(*job, "hydra.run.dir=whole").code == 0
    with monkeypatch.context() as patched:
        calls, fsync = [], os.fsync

        def full(descriptor: int) -> None:
            calls.append(1)
            if len(calls) > 25:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        patched.setattr(checkpoint_files.os, "fsync", full)
        sentence = one_sentence(offpol(*job, "hydra.run.dir=run"))
    assert "No space left on device. Make room; the checkpoint at 20" in sentence
    assert sentence.endswith("is whole: offpol resume=run")
    assert not list(Path("run").rglob("*.partial"))
    assert offpol("resume=run").code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


class Elsewhere:
    """Stands in for a tensor on another device; whoever reads it waits, which `asked` notes."""

    device = torch.device("cuda")

    def __init__(self, value: bool, asked: list[int]) -> None:
        self.value, self.asked = value, asked

    def __and__(self, other: "Elsewhere") -> "Elsewhere":
        return Elsewhere(self.value and other.value, self.asked)

    def __bool__(self) -> bool:
        self.asked.append(1)
        return self.value


def test_other_devices_are_asked_only_now_and_then() -> None:
    guard, asked = Guard(), []

    class Some:
        parameters, updates = (torch.ones(2),), 7

        @staticmethod
        def to_dict() -> dict:
            return {"obs": torch.zeros(1)}

        state_dict = to_dict

    for value in (True, False, True):
        guard.watch(Some, Some, Elsewhere(value, asked))  # type: ignore[arg-type]
    assert not asked
    with pytest.raises(NotFinite, match="up to number 7"):
        guard.check()


KILLER = """
import os, random, signal, sys, time
from offpol.main import main
from offpol import learning, run  # what a run needs, imported once
from offpol.record import logger
seed, kills, arguments = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
random.seed(seed)
def writing():
    return any(n.endswith(".partial") for f in ("run/checkpoints", "run/checkpoints/segments") for n in os.listdir(f))
def newest():
    return max(n for n in os.listdir("run/checkpoints") if n.isdigit())
for kill in range(kills):
    child = os.fork()
    if child == 0:
        sys.argv = ["offpol", *(arguments if not os.path.exists("run/config.yaml") else ["resume=run"])]
        os.dup2(os.open(f"log{kill}", os.O_WRONLY | os.O_CREAT), 2)
        main()
        os._exit(0)
    began = time.monotonic()
    while kill == 0 and not os.path.exists("run/checkpoints/000002"):
        time.sleep(0.01)
        assert time.monotonic() < began + 60
    if kill % 4:  # let it get on, then kill anywhere; else kill it at any moment of its start
        already, deadline = newest(), time.monotonic() + 20
        while newest() == already and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random.uniform(0.0, 0.3))
    else:
        time.sleep(random.uniform(0.0, 3.0))
    if kill % 4 == 1:  # in the middle of writing a checkpoint
        deadline = time.monotonic() + 5
        while not writing() and time.monotonic() < deadline:
            pass
    inside = writing()
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), open(f"log{kill}").read()
    print("inside" if inside else "outside")
"""


def test_the_killer_finds_what_it_imports(monkeypatch) -> None:
    """Or the slow test below would tell weeks later."""
    monkeypatch.setattr(sys, "argv", ["killer", "0", "0"])
    exec(KILLER, {})


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("topology", ["sync", "threads"])
def test_killed_fifty_times_it_is_the_run_that_nothing_happened_to(offpol, tmp_path, topology: str) -> None:
    job = (*JOB, f"topology={topology}", "run.checkpoint_every_agent_steps=40", "run.eval_episodes=0")
    command = [sys.executable, "-c", KILLER, "0", "50" if topology == "sync" else "15", *job, "run.agent_steps=1000000",
               "hydra.run.dir=run"]  # fmt: skip
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert killed.returncode == 0, killed.stderr
    assert killed.stdout.splitlines().count("inside") >= 3  # of writing a checkpoint
    reached = checkpoint.load_newest(Path("run/checkpoints")).about["agent_steps"]
    assert reached > 300
    end = reached + random.Random(0).randrange(100, 300)
    assert offpol("resume=run", f"run.agent_steps={end}").code == 0
    assert offpol(*job, f"run.agent_steps={end}", "hydra.run.dir=whole").code == 0
    for folder in ("run", "whole"):
        Path(folder, "evaluation.json").write_text("none was asked for")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_flat_over_200_000_steps(tmp_path) -> None:
    """The process's peak of resident memory, as every row of metrics tells it, in a process of its own."""
    command = [
        sys.executable, "-m", "offpol.main", *TINY, "run.agent_steps=200000", "run.num_envs=16", "run.eval_episodes=0",
        "run.learning_starts_agent_steps=200", "run.log_every_agent_steps=5000", "run.replay_ratio=0.05",
        "run.checkpoint_every_agent_steps=10000", "hydra.run.dir=run",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    peak = {row["agent_steps"] // 5000: row["machine/peak_memory_mb"] for row in rows}
    assert peak[40] - peak[10] < 12, peak
