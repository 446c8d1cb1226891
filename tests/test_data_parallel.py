"""Two processes take the steps that one takes with the joined batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import TINY
from data_parallel_child import POLICIES, learned
from test_agent import make_batch
from test_conf import composed
from test_every_part import make_agent
from test_resume import metrics

from offpol import assembly, data_parallel, processes
from offpol.checks import check_together
from offpol.errors import ConfigError
from offpol.record import checkpoint

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_gradients_are_those_of_one_process_with_the_joined_batch(tmp_path) -> None:
    child = Path(__file__).with_name("data_parallel_child.py")
    done = run(tmp_path, *TORCHRUN, str(child), "results.pt")
    assert done.returncode == 0, done.stderr
    results = torch.load(tmp_path / "results.pt")
    alone = {policy: learned(make_agent(policy=policy)) for policy in POLICIES}
    # Only the other process sees what is not finite there, and its gradient (huber) is: both leave that step out.
    alone["spoiled"] = learned(make_agent(critic="scalar"), spoiled=1)
    assert alone["spoiled"]["finite"].tolist() == [True, False, True]
    assert results.keys() == alone.keys()
    for case, expected in alone.items():
        for name in expected:
            said = f"{case}, {name}: "
            torch.testing.assert_close(results[case][name], expected[name], rtol=1e-5, atol=1e-6, msg=said.__add__)


def test_a_share_is_packed_without_loss_in_the_layout_of_replays() -> None:
    batch = make_batch(size=4)
    pixels = torch.randint(0, 256, (4, 4, 5, 6, 3), dtype=torch.uint8)  # [n+1, B, H, W, stack]
    batch.obs = pixels.permute(1, 0, 4, 2, 3)
    share = data_parallel._ordered(batch[1:3])
    layout = [(name, values.shape, values.dtype) for name, values in share.items()]
    received = data_parallel._unpacked(data_parallel._pack(share), layout)
    for name, values in batch[1:3].items():
        assert torch.equal(received.get(name), values), name
    rows = received.obs.transpose(0, 1).flatten(0, 1)
    assert rows.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_is_written_once_and_is_the_run_of_one_process(tmp_path) -> None:
    for name, command in (("alone", (sys.executable,)), ("two", TORCHRUN)):
        done = run(tmp_path, *command, "-m", "offpol.main", *TINY, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(": done.") == 1
    alone, two = (metrics(tmp_path / name) for name in ("alone", "two"))
    assert [row["updates"] for row in two] == [row["updates"] for row in alone]
    states = [checkpoint.load_newest(tmp_path / name / "checkpoints").state["agent"] for name in ("alone", "two")]
    torch.testing.assert_close(states[1]["network"], states[0]["network"], rtol=1e-3, atol=1e-4)
    longer = run(tmp_path, *TORCHRUN, "-m", "offpol.main", "resume=two", "run.agent_steps=500")
    assert longer.returncode == 0, longer.stderr
    assert metrics(tmp_path / "two")[-1]["agent_steps"] >= 500
    assert len(json.loads((tmp_path / "two" / "info.json").read_text())["resumed"]) == 1


def test_another_agent_is_not_silently_replaced(monkeypatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    cfg = composed("task=chain")
    check_together(cfg, 1000)
    mine = {**cfg, "agent": {**cfg["agent"], "_target_": "mine.Agent"}}
    with pytest.raises(ConfigError, match=r"mine\.Agent, but processes that torchrun started learn together by"):
        check_together(mine, 1000)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mistake", "sentence"), [
    ("agent.batch_size=5", "agent.batch_size is 5, but must be a multiple of 2"),
    ("agent.gama=1", "did you mean 'agent.gamma'?"),
])  # fmt: skip
def test_a_mistake_is_told_once(tmp_path, mistake, sentence) -> None:
    done = run(tmp_path, *TORCHRUN, "-m", "offpol.main", *TINY, mistake, "hydra.run.dir=run")
    assert done.returncode != 0
    assert done.stderr.count(sentence) == 1


def test_a_trace_that_looks_at_the_whole_batch_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    cfg = composed(*TINY, "trace=c_trace")
    with pytest.raises(ConfigError, match="CTrace looks at the whole batch, of which each process"):
        assembly.build_agent(cfg, assembly.env_spec(cfg))
