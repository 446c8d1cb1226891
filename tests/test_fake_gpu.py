"""No update touches the host between its first operation and its last, whatever it is made of."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from offpol.config import conf_dir
from offpol.transfer import upload

PROGRAM = Path(__file__).with_name("fake_gpu.py")


def options(seam: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / seam).glob("*.yaml"))


JOBS = [
    *(f"trace={name}" + ",trace.off_policy=true" * (name == "gae") for name in options("trace")),
    *(f"critic={name}" for name in options("critic")),
    *(f"policy={name}" for name in options("policy")),
    "critic.num_critics=3,critic.minimum_of=2", "critic.num_critics=2,critic.separate_networks=true",
    "network=impala,network.spectral_norm=true", "network.heads.noisy=0.5,policy=greedy,trace=n_step",
    "replay.normaliser=buffer,replay.uniform_mix=0.3", "agent.annealing.over_updates=10,agent.resets.every_updates=20",
]  # fmt: skip


def learn(*jobs: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent.parent)}
    return subprocess.run([sys.executable, str(PROGRAM), *jobs], env=environment, capture_output=True, text=True)


@pytest.mark.timeout(300)
def test_nothing_in_an_update_waits_for_a_gpu() -> None:
    done = learn(*JOBS)
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-3000:]}"
    assert done.stdout.splitlines() == [f"fine: {job}" for job in JOBS]


MISTAKES = {
    "lambda self, td, valid: td[0] * float(td.sum())": "DataDependentOutputException",
    "lambda self, td, valid: td[0] + torch.zeros(1)": "device",
    "lambda self, td, valid: td[0] * torch.ones(1).to(td.device)": "touches the host",
}
MAKE_THEM = """
import sys, torch, fake_gpu
from offpol.agent import Agent
fake_gpu.set_up()
for mistake in sys.argv[1:]:
    Agent._priority = eval(mistake)
    try:
        print(fake_gpu.update(["trace=one_step", "agent.window=1"]))
    except Exception as error:
        print(type(error).__name__, str(error).replace("\\n", " "))
"""


def test_a_fake_gpu_notices_what_a_real_one_would() -> None:
    path = os.pathsep.join(map(str, (PROGRAM.parent.parent, PROGRAM.parent)))
    command = [sys.executable, "-c", MAKE_THEM, *MISTAKES]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    noticed = done.stdout.splitlines()
    assert len(noticed) == len(MISTAKES), done.stderr[-3000:]
    for line, (mistake, said) in zip(noticed, MISTAKES.items(), strict=True):
        assert said in line, f"{mistake}: {line}"


def test_what_lies_on_the_gpu_is_not_copied_through_the_host() -> None:
    """Memory of a GPU cannot be pinned."""
    gpu = SimpleNamespace(type="cuda")
    there = SimpleNamespace(device=gpu, to=lambda device: device)
    assert upload(there, gpu) is gpu
