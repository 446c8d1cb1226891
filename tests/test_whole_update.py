"""An update as one piece of work, compiled or recorded, is the update done step by step."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from command import TINY, call
from cpu_graphs import DEVICES, graphs  # noqa: F401
from test_agent import SPEC
from test_every_part import NOISY, PARTS, make_agent
from torch import nn

from offpol import main
from offpol.agent import Agent, TargetConfig, Update
from offpol.errors import ConfigError
from offpol.record import checkpoint
from offpol.replay.on_device import OnDevice
from offpol.replay.uniform import Uniform
from offpol.resets import AnnealingConfig, ResetConfig
from offpol.schedule import Schedule
from offpol.seeding import global_state, load_global_state
from offpol.types import Rows
from offpol.whole_update import WholeUpdate, compile_or_record

WINDOW, BATCH = 3, 5


def filled(device: str = "cpu", kind: type = OnDevice) -> Any:
    """A replay of random rows, with windows of test_every_part's agents."""
    settings: dict = {"storage": "memory", "directory": None} if kind is Uniform else {
        "device": device,
        "alpha": 0.6, "beta": Schedule(0.4, 1.0, 400, 0), "epsilon": 0.01, "new_priority": "max", "uniform_mix": 0.2,
        "draws": "stratified", "normaliser": "batch",
    }  # fmt: skip
    replay = kind(100, **settings, spec=SPEC, window=WINDOW, seed=3)
    add(replay, 60)
    return replay


def add(replay: Any, rounds: int, seed: int = 0) -> None:
    rng, envs = np.random.default_rng(seed), SPEC.num_envs
    for _ in range(rounds):
        replay.add(Rows(
            obs=rng.normal(size=(envs, *SPEC.frame_shape)).astype(np.float32), reward=rng.random(envs, np.float32),
            action=rng.integers(SPEC.num_actions, size=envs), terminated=rng.random(envs) < 0.1,
            truncated=np.zeros(envs, bool), valid=rng.random(envs) < 0.9, policy_version=rng.integers(9, size=envs),
            behavior_log_prob=np.log(rng.uniform(0.1, 0.9, envs)).astype(np.float32),
        ))  # fmt: skip


def step_by_step(agent: Agent, replay: Any, measure: bool) -> Update:
    batch = replay.sample(BATCH)
    update = agent.update(batch, measure)
    replay.update_priorities(batch.index, batch.generation, update.priority)
    return update


def both(number: int, agents: list[Agent], replays: list[Any], every: int = 3) -> list[tuple[Update, Update]]:
    """Do so many updates step by step and as a whole, adding rows in between; measure `every` so many, 0 none."""
    answers = []
    torch.manual_seed(1)
    for k in range(number):
        random = global_state()
        measure = every > 0 and k % every == 0
        plain = step_by_step(agents[0], replays[0], measure)
        load_global_state(random)
        answers.append((plain, agents[1].whole_update(measure)[1]))
        for replay in replays:
            add(replay, 1, seed=k)
    return answers


def assert_same(agents: list[Agent], replays: list[Any], answers: list, exact: bool) -> None:
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-4, "atol": 1e-5}
    for plain, whole in answers:
        assert whole.metrics.keys() == plain.metrics.keys()
        for name, number in plain.metrics.items():
            torch.testing.assert_close(whole.metrics[name], number, **tolerance, msg=name, equal_nan=True)
        assert whole.finite == plain.finite
    for network in ("network", "target_network"):
        vectors = [nn.utils.parameters_to_vector(getattr(agent, network).parameters()) for agent in agents]
        torch.testing.assert_close(*vectors, **tolerance)
    torch.testing.assert_close(replays[0].sums.masses, replays[1].sums.masses, **tolerance)
    assert agents[0].updates == agents[1].updates == len(answers)
    assert replays[0].dropped_priorities == replays[1].dropped_priorities
    assert agents[0].state_dict().keys() == agents[1].state_dict().keys()


# ----------------------------------------------------------------------------------------- CUDA graphs


def recorded(agent: Agent, replay: Any) -> WholeUpdate:
    return WholeUpdate(agent, replay, compile=False, cuda_graph=True)


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_a_recorded_update_is_the_update_done_step_by_step(file, graphs) -> None:  # noqa: F811
    """With every part, on the CPU bit for bit: after the first few calls no Python of theirs runs any more."""
    on, part = graphs.device, {file.parent.name: file.stem}
    agents, replays = [make_agent(device=on, **part) for _ in "ab"], [filled(on), filled(on)]
    agents[1].whole_update = recorded(agents[1], replays[1])
    assert_same(agents, replays, both(16, agents, replays), exact=on == "cpu")
    assert len(graphs.made) == 2  # measured and not


def test_what_changes_from_update_to_update_is_not_recorded(graphs) -> None:  # noqa: F811
    """The target's period, gamma and the window that are annealed, resets, noise, and the number of updates."""
    agents, replays = [], []
    for _ in "ab":
        agent = make_agent(NOISY, device=graphs.device, critic="categorical", trace="n_step", policy="greedy")
        agent.resets, agent.annealing = ResetConfig(14, None, 0.5), AnnealingConfig(10, 0.5, 2)
        agent.target = TargetConfig(0.5, 3, False)
        agents.append(agent)
        replays.append(filled(graphs.device))
    whole, measured = recorded(agents[1], replays[1]), []

    def watched(measure: bool) -> Any:
        """Note the age of the batch, as the number of the update and the window that is used make it."""
        window, before = agents[1].horizon()[1], agents[1].updates
        batch, update = whole(measure)
        if measure:
            age = before - batch.policy_version[:, :window][batch.valid[:, :window]].float().mean()
            measured.append((update.metrics["sample_age_updates"], age))
        return batch, update

    agents[1].whole_update = watched
    answers = both(40, agents, replays, every=2)
    assert_same(agents, replays, answers, exact=graphs.device == "cpu")
    assert len(graphs.made) > 2
    assert len(measured) == 20
    for told, age in measured:
        torch.testing.assert_close(told, age, rtol=1e-5, atol=1e-5)


def test_random_numbers_and_new_rows_are_not_frozen(graphs) -> None:  # noqa: F811
    agent, replay = make_agent(device=graphs.device), filled(graphs.device)
    whole = recorded(agent, replay)
    drawn = [whole(False)[0].index.tolist() for _ in range(10)]
    assert len(graphs.made) == 1
    assert len({tuple(index) for index in drawn}) == 10
    add(replay, 60, seed=9)  # nothing of before is left
    batch = whole(False)[0].cpu()
    host = replay.ring.fields["action"][batch.index.numpy()]
    np.testing.assert_array_equal(batch.action[:, 0], host)
    assert torch.equal(batch.generation, torch.from_numpy(replay.ring.generation(batch.index.numpy())))


def test_actors_get_new_weights_from_recorded_answers(graphs) -> None:  # noqa: F811
    agents, obs = [make_agent(device=graphs.device) for _ in "ab"], torch.randn(4, *SPEC.obs_shape)
    agents[1].acting.record()
    replay, seen = filled(graphs.device), []
    for k in range(12):
        for agent in agents:
            agent.update(replay.sample(BATCH)) if k % 2 else None
        agents[1].network.load_state_dict(agents[0].network.state_dict())
        ours, theirs = agents[1].values(obs + k), agents[0].values(obs + k)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
        seen.append(ours[0].clone())
    assert len(graphs.made) == 1
    assert not torch.equal(seen[-1], seen[-3])
    agents[1].values(obs[:2])  # another number of envs


def test_loading_a_checkpoint_records_anew(graphs) -> None:  # noqa: F811
    """The optimizer's state is put elsewhere by loading; a graph would go on with the old one."""
    agents, replays = zip(*[(make_agent(device=graphs.device), filled(graphs.device)) for _ in "ab"], strict=True)
    agents[1].whole_update = recorded(agents[1], replays[1])
    both(6, agents, replays)
    agents[1].load_state_dict(copy.deepcopy(agents[0].state_dict()))
    answers = both(6, agents, replays)
    vectors = [nn.utils.parameters_to_vector(agent.parameters) for agent in agents]
    torch.testing.assert_close(*vectors, **({"rtol": 0, "atol": 0} if graphs.device == "cpu" else {}))
    assert len(answers) == 6


def test_what_is_kept_is_not_overwritten_by_the_next_update(graphs) -> None:  # noqa: F811
    whole = recorded(make_agent(device=graphs.device), filled(graphs.device))
    for _ in range(5):
        whole(True)
    update = whole(True)[1]
    kept = {name: float(number) for name, number in update.metrics.items()}
    whole(True)
    assert {name: float(number) for name, number in update.metrics.items()} == kept


def test_a_graph_needs_a_gpu_and_a_replay_on_it() -> None:
    agent = make_agent()
    with pytest.raises(ConfigError, match=r"needs a GPU, but run\.device is cpu"):
        compile_or_record(agent, filled(), compile=False, cuda_graph=True)
    agent.device = torch.device("cuda")  # as far as anyone has looked
    with pytest.raises(ConfigError, match="which takes replay=on_device"):
        compile_or_record(agent, filled(kind=Uniform), compile=False, cuda_graph=True)


def test_a_run_says_that_it_cannot_have_a_graph(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    said = call(main.main, (*TINY, "replay=on_device", "run.cuda_graph=true"), monkeypatch, capfd)
    assert said.code == 2
    assert said.err == (
        "offpol: run.cuda_graph needs a GPU, but run.device is cpu: set run.device=cuda, or cuda_graph=false.\n"
    )


# -------------------------------------------------------------------------------------------- compiled


def compiled_is_plain(
    backend: str, number: int, every: int, monkeypatch: pytest.MonkeyPatch, device: str = "cpu", graph: bool = False
) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda work: compile_(work, backend=backend))
    torch._dynamo.reset()
    agents, replays = [make_agent(device=device) for _ in "ab"], [filled(device), filled(device)]
    compile_or_record(agents[1], replays[1], compile=True, cuda_graph=graph)
    obs = torch.randn(4, *SPEC.obs_shape)
    before = agents[1].values(obs)[0]
    assert_same(agents, replays, both(number, agents, replays, every), exact=False)
    assert not [name for name in agents[1].state_dict()["network"] if "_orig_mod" in name]
    fresh = make_agent(device=device)
    fresh.load_state_dict(copy.deepcopy(agents[1].state_dict()))
    assert torch.equal(fresh.values(obs)[0], agents[1].values(obs)[0])
    assert not torch.equal(before, agents[1].values(obs)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own (2.11)
def test_a_traced_update_is_the_update_done_step_by_step(monkeypatch) -> None:
    """What torch.compile does but for making kernels, which takes long."""
    compiled_is_plain("aot_eager", 8, 0, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Inductor's own
@pytest.mark.parametrize("device", DEVICES)
def test_a_compiled_update_is_the_update_done_step_by_step(device, monkeypatch) -> None:
    """On a GPU also recorded, as its kernels are there to be."""
    for graph in {False, device == "cuda"}:
        compiled_is_plain("inductor", 30, 5, monkeypatch, device, graph)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Inductor's own
@pytest.mark.parametrize("replay", ["prioritized", "on_device"])
def test_a_compiled_run_learns_what_a_plain_one_does(replay, tmp_path, monkeypatch, capfd) -> None:
    """From the command line; also resumed without compiling, as checkpoints are alike."""
    monkeypatch.chdir(tmp_path)
    job = (*TINY, f"replay={replay}")
    assert call(main.main, (*job, "hydra.run.dir=plain"), monkeypatch, capfd).code == 0
    torch._dynamo.reset()
    ended = call(main.main, (*job, "run.compile=true", "run.agent_steps=300", "hydra.run.dir=fast"), monkeypatch, capfd)
    assert ended.code == 0, ended.err
    ended = call(main.main, ("resume=fast", "run.compile=false", "run.agent_steps=400"), monkeypatch, capfd)
    assert ended.code == 0, ended.err
    states = [checkpoint.load_newest(tmp_path / name / "checkpoints").state["agent"] for name in ("plain", "fast")]
    assert states[0]["updates"] == states[1]["updates"]
    for name, values in states[0]["network"].items():
        torch.testing.assert_close(states[1]["network"][name], values, rtol=1e-3, atol=1e-4, msg=name)
