"""A whole update on a GPU that computes nothing: its tensors have shapes and a device, but no numbers.

So what would fail or wait on a real one is an error here, on any machine: an operation on tensors of two devices, a
number or a mask that the host would have to read, a tensor that an update makes on the host. Run as a program, as the
fake device can be set up once in a process and not taken back:

    python tests/fake_gpu.py trace=retrace critic=categorical,num_bins=11

Each argument is one job, its overrides parted by commas.
"""

import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import offpol
from offpol.assembly import build_agent
from offpol.cli.command_line import VERSION_BASE, plain
from offpol.config import build, conf_dir
from offpol.optimizer import adamw
from offpol.types import EnvSpec, Rows
from offpol.whole_update import _terms, _variant

SPEC = EnvSpec("random", 4, 6, (84, 84), torch.uint8, stack=4)
PACKAGE = Path(offpol.__file__).parent
SMALL = ("replay=on_device", "replay.capacity=400", "agent.batch_size=8", "network.heads.hidden=16")


class Watch(TorchDispatchMode):
    """Notes operations that touch the host, with the line of offpol that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, answer)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            frames = [f for f in traceback.extract_stack() if f.filename.startswith(str(PACKAGE))]
            self.found.add(f"{func} touches the host in {Path(frames[-1].filename).name}:{frames[-1].lineno}")
        return answer


class FakeGPU:
    """Moves what an update reads to the fake device."""

    def __init__(self) -> None:
        self.mode, self.device = FakeTensorMode(), torch.device("gpu:0")

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        with _disable_current_modes():
            fake = self.mode.from_tensor(tensor.detach().clone(memory_format=torch.preserve_format))
        fake = fake.to(self.device)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        return torch.nn.Parameter(fake, requires_grad=tensor.requires_grad) if is_parameter else fake

    def module(self, module: torch.nn.Module) -> None:
        for part in module.modules():
            for tensors in (part._parameters, part._buffers):
                tensors.update({name: self.tensor(value) for name, value in tensors.items() if value is not None})

    def agent(self, agent) -> None:
        for module in (agent.network, agent.target_network, agent.critic, agent.policy):
            self.module(module)
        agent.device = agent.acting.device = self.device
        agent.parameters = [*agent.network.parameters(), *agent.policy.parameters()]
        agent._online = [parameter.data for parameter in agent.network.parameters()]
        agent._followers = list(agent.target_network.parameters())
        agent.optimizer = adamw([agent.network, agent.policy], agent.optimizer_config)

    def replay(self, replay) -> None:
        ring, sums = replay.ring, replay.sums
        replay.device = ring.device = sums.device = self.device
        ring.frames.tensor, ring.generations = self.tensor(ring.frames.tensor), self.tensor(ring.generations)
        ring._columns = [self.tensor(column) for column in ring._columns]
        sums._blocks, sums._sums = self.tensor(sums._blocks), self.tensor(sums._sums)
        sums._least = None if sums._least is None else self.tensor(sums._least)
        for name in ("_largest_mass", "_dropped", "_refused"):
            setattr(replay, name, self.tensor(getattr(replay, name)))


def filled_replay(cfg: dict):
    window, rng = cfg["agent"]["window"], np.random.default_rng(0)
    replay = build(cfg["replay"], "replay", spec=SPEC, window=window, seed=0, device="cpu")
    for step in range(40):
        replay.add(Rows(
            obs=rng.integers(0, 256, (4, 84, 84), dtype=np.uint8), action=rng.integers(6, size=4),
            reward=rng.random(4, np.float32), terminated=rng.random(4) < 0.05, truncated=np.zeros(4, bool),
            valid=np.ones(4, bool), behavior_log_prob=np.full(4, -1, np.float32), policy_version=np.full(4, step),
        ))  # fmt: skip
    return replay


def update(overrides: list[str]) -> set[str]:
    """Draw, learn, prioritize, measure and act on the fake device; return what touched the host."""
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        cfg = plain(compose("config", overrides=[*SMALL, *overrides]))
    agent, replay, gpu, watch = build_agent(cfg, SPEC), filled_replay(cfg), FakeGPU(), Watch()
    with gpu.mode:
        gpu.agent(agent)
        gpu.replay(replay)
        assert agent.critic.initial_logits.ndim == 1  # asked for wherever the critic is
        for measure in (False, True):
            chances, terms = replay.chances(agent.batch_size), agent.next_terms()
            numbers = np.concatenate(([float(terms.updates), float(terms.gamma)], chances))
            inputs = gpu.tensor(torch.from_numpy(numbers))
            with watch:
                batch = replay.draw(inputs[2:])
                answer = agent.learn_from(batch, _terms(inputs, _variant(terms)), measure)
                replay.prioritize(batch.index, batch.generation, answer.priority)
        assert all(number.device == gpu.device for number in answer.metrics.values())
        obs = gpu.tensor(torch.zeros(4, *SPEC.obs_shape, dtype=torch.uint8))
        with watch:
            agent.acting._compute(obs, agent.network, True)
    return watch.found


def set_up() -> None:
    """Make the device, once in a process."""
    warnings.simplefilter("ignore")  # torch's, of this device being for tests
    _setup_privateuseone_for_python_backend("gpu")
    torch.set_num_threads(1)


def main() -> None:
    set_up()
    for job in sys.argv[1:]:
        overrides = [word for word in job.split(",") if word]
        found = update(overrides)
        assert not found, f"{job}: {sorted(found)}"
        print(f"fine: {job}", flush=True)


if __name__ == "__main__":
    main()
