"""On a real GPU: what it computes is what the CPU computes, and runs there end, go on and are played anywhere."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import TINY, Outcome, call
from test_every_part import PARTS, make_agent
from test_resume import interrupt_at
from test_whole_update import BATCH, filled

from offpol import main
from offpol.cli import evaluate_command
from offpol.inspect import command as inspect_command

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
ON_DEVICE = ("run.device=cuda", "replay=on_device", "run.cuda_graph=true")
Command = Callable[..., Outcome]


@pytest.fixture
def offpol(tmp_path, monkeypatch, capfd) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, program: Callable[[], None] = main.main) -> Outcome:
        ended = call(program, arguments, monkeypatch, capfd)
        assert "Traceback" not in ended.err, ended.err
        return ended

    return run


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_a_gpu_learns_what_a_cpu_does(file: Path) -> None:
    agents = [make_agent(device=device, **{file.parent.name: file.stem}) for device in ("cpu", "cuda")]
    batch, random = filled().sample(BATCH), torch.get_rng_state()
    here, there = [agent.update(batch, measure=True) for agent in agents]
    if not torch.equal(random, torch.get_rng_state()):
        pytest.skip("it draws random numbers, and a GPU draws others")
    torch.testing.assert_close(there.priority.cpu(), here.priority, rtol=1e-4, atol=1e-5)
    assert there.metrics.keys() == here.metrics.keys()
    for name, number in here.metrics.items():
        torch.testing.assert_close(there.metrics[name].cpu(), number, rtol=1e-3, atol=1e-5, msg=name, equal_nan=True)


@pytest.mark.parametrize("how", [
    ("run.device=cuda",), ("run.device=cuda", "run.actor_device=cpu"), ("run.device=cuda", "replay=on_device"),
    ON_DEVICE, (*ON_DEVICE, "run.autocast=bfloat16"), (*ON_DEVICE, "topology=threads"),
    (*ON_DEVICE, "run.actor_device=cpu", "topology=threads"), ("run.device=cuda", "topology=threads"),
    (*ON_DEVICE, "env=gymnasium", "env.id=Acrobot-v1", "behavior=epsilon_policy", "critic.num_critics=2"),
], ids=" ".join)  # fmt: skip
def test_a_run_on_a_gpu_is_interrupted_goes_on_and_is_played_on_a_cpu(how, offpol, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(222, patched, signal.SIGINT)
        stopped = offpol(*TINY, *how, "hydra.run.dir=run")
    assert stopped.code == 130, stopped.err
    done = offpol("resume=run")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["agent_steps"] >= 400
    assert rows[-1]["updates"] == (rows[-1]["agent_steps"] - 60) // 4
    played = offpol("run", "--episodes", "2", "--device", "cpu", program=evaluate_command.main)
    assert played.code == 0, played.err


def test_what_a_gpu_learned_is_looked_at_on_a_cpu(offpol) -> None:
    assert offpol(*TINY, *ON_DEVICE, "hydra.run.dir=run").code == 0
    looked = offpol("run", "--device", "cpu", program=inspect_command.main)
    assert looked.code == 0, looked.err
