"""Evaluation: full games, fixed shares, honest intervals."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_conf import composed

from offpol import deadline, film
from offpol import evaluate as evaluate_module
from offpol.actor import Actor, Episode
from offpol.config import conf_dir
from offpol.errors import ConfigError, RunError
from offpol.evaluate import evaluate, summarize
from offpol.record.identity import to_be_over
from offpol.types import EnvSpec, EnvStep


class Clock:
    """Env i plays games of 3 (i + 1) steps that each pay their length; a life is lost in every second step."""

    def __init__(self, num_envs: int) -> None:
        self.spec = EnvSpec("Clock", num_envs, 2, (1,), torch.float32)
        self.lengths = 3 * (np.arange(num_envs) + 1)
        self.age = np.zeros(num_envs, dtype=int)
        self.rendered = 0

    def reset(self) -> np.ndarray:
        return np.zeros((self.spec.num_envs, 1), dtype=np.float32)

    def step(self, action: np.ndarray) -> EnvStep:
        valid = self.age < self.lengths
        self.age = np.where(valid, self.age + 1, 0)
        over = self.age == self.lengths
        lost = (self.age % 2 == 0) | over
        return EnvStep(self.reset(), np.zeros(len(valid), np.float32), valid * 1.0, lost, ~valid, valid, over)

    def render(self) -> np.ndarray:
        self.rendered += 1
        return np.full((4, 6, 3), self.rendered, dtype=np.uint8)


class First:
    def probs(self, q: torch.Tensor, pi: torch.Tensor, agent_steps: int) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(q), 2)


def play(num_envs: int, episodes: int, pictures: list | None = None) -> list[Episode]:
    actor = Actor(Clock(num_envs), First(), lambda obs: (torch.full((len(obs), 2), 0.5),) * 2, seed=0)
    return evaluate(actor, episodes, pictures)


@pytest.mark.parametrize(("num_envs", "episodes"), [(1, 3), (3, 3), (3, 7), (4, 10)])
def test_every_env_plays_its_share_however_long_its_games(num_envs: int, episodes: int) -> None:
    played = play(num_envs, episodes)
    shares = np.bincount([episode.stream for episode in played], minlength=num_envs)
    assert shares.sum() == episodes
    assert shares.max() - shares.min() <= 1
    assert all(e.episode_return == e.length_agent_steps == 3 * (e.stream + 1) for e in played)


def test_a_game_without_an_end_ends_the_evaluation(monkeypatch) -> None:
    monkeypatch.setattr(evaluate_module, "LONGEST_GAME", 8)
    assert len(play(2, 2)) == 2  # of 3 and 6 agent steps
    with pytest.raises(RunError, match="a game of Clock has not ended after 8 agent steps of the evaluation"):
        play(3, 3)


def test_a_step_that_takes_too_long_ends_the_evaluation_by_name(monkeypatch, capfd) -> None:
    ended = threading.Event()
    monkeypatch.setattr(deadline.os, "_exit", lambda code: ended.set())
    slow = Actor(Clock(1), First(), lambda obs: (torch.full((len(obs), 2), 0.5),) * 2, seed=0)
    monkeypatch.setattr(slow, "step", lambda decision: (ended.wait(10), [Episode(0, 0.0, 1)]))
    evaluate(slow, 1, deadline_s=0.05)
    assert "Clock hangs in the evaluation: a step takes over topology.deadline_s=0.05 s." in capfd.readouterr().err


def test_an_env_that_is_never_closed_ends_the_evaluation(monkeypatch, capfd) -> None:
    ended = threading.Event()
    monkeypatch.setattr(deadline.os, "_exit", lambda code: ended.set())
    monkeypatch.setattr(deadline, "SLOWEST_START_S", 0.5)
    clock = Clock(1)
    monkeypatch.setattr(clock, "close", lambda: ended.wait(10), raising=False)
    monkeypatch.setattr(evaluate_module, "build_env", lambda *of: clock)
    half = torch.full((1, 2), 0.5)
    agent: Any = SimpleNamespace(values=lambda obs: (half, half), acting_network=torch.nn.Identity())
    cfg = {"seed": 0, "run": {"eval_num_envs": 1, "eval_over": "q"}, "topology": {"deadline_s": 0.5}}
    evaluate_module.evaluation(cfg, agent, episodes=1, epsilon=0.0, seed=0)
    assert "takes longer than 0.5 s to close: mend it, or raise topology.deadline_s" in capfd.readouterr().err


class FollowsPolicy:
    """A behavior from outside, built with the keywords that types.Behavior names."""

    over = "policy"

    def __init__(self, *, first_stream: int, num_streams: int) -> None:
        self.streams = first_stream, num_streams

    def probs(self, q: torch.Tensor, pi: torch.Tensor, agent_steps: int) -> torch.Tensor:
        return pi


def test_a_behavior_from_outside_says_what_it_follows() -> None:
    cfg = {**composed("task=chain"), "behavior": {"_target_": f"{__name__}.FollowsPolicy"}}
    assert evaluate_module.followed(cfg) == "policy"
    assert to_be_over(cfg) is None  # reports cannot know, and do not guess
    assert to_be_over({**cfg, "run": {"eval_over": "q"}}) == "q"


@pytest.mark.parametrize("file", sorted((conf_dir() / "behavior").glob("*.yaml")), ids=lambda file: file.stem)
def test_reports_and_benches_know_what_each_behavior_of_offpol_follows(file: Path) -> None:
    cfg = composed("task=chain", f"behavior={file.stem}")
    assert to_be_over(cfg) == evaluate_module.followed(cfg)


@pytest.mark.parametrize(
    ("overrides", "over"),
    [
        ([], "q"), (["behavior=boltzmann"], "q"), (["behavior=epsilon_policy"], "policy"),
        (["behavior.over=policy"], "policy"), (["behavior=epsilon_policy", "run.eval_over=q"], "q"),
        (["run.eval_over=policy"], "policy"),
    ],
)  # fmt: skip
def test_the_final_games_are_played_by_what_the_actors_follow(monkeypatch, overrides: list[str], over: str) -> None:
    clock, taken = Clock(1), []
    step = clock.step
    monkeypatch.setattr(clock, "step", lambda action: taken.append(action.item()) or step(action))
    monkeypatch.setattr(clock, "close", lambda: None, raising=False)
    monkeypatch.setattr(evaluate_module, "build_env", lambda *of: clock)
    q, pi = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.1, 0.9]])
    agent: Any = SimpleNamespace(values=lambda obs: (q, pi), acting_network=torch.nn.Identity())
    result = evaluate_module.evaluation(composed("task=chain", *overrides), agent, episodes=1, epsilon=0.0, seed=0)
    assert result["over"] == over
    assert set(taken) == {0 if over == "q" else 1}


def test_the_first_game_of_the_first_env_is_filmed(tmp_path) -> None:
    pictures: list = []
    play(2, 4, pictures)
    assert [picture[0, 0, 0] for picture in pictures] == [1, 2, 3]
    film.save(pictures, tmp_path / "game.gif", fps=15)
    from PIL import Image

    with Image.open(tmp_path / "game.gif") as written:
        assert (written.n_frames, written.size) == (3, (6, 4))


@pytest.mark.parametrize(("name", "sentence"), [("x.avi", "must end in"), ("no/x.gif", "no folder")])
def test_a_film_that_cannot_be_written_is_refused_beforehand(tmp_path, name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        film.require_possible(tmp_path / name)


def test_mp4_asks_for_its_package(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(film.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="imageio-ffmpeg"):
        film.require_possible(tmp_path / "x.mp4")


def test_summary_is_about_the_raw_returns() -> None:
    result = summarize([Episode(0, r, 5) for r in (1.0, 2.0, 6.0)], seed=0)
    assert (result["mean"], result["median"], result["episodes"]) == (3.0, 2.0, 3)
    assert result["std"] == pytest.approx(np.sqrt(7))
    assert json.loads(json.dumps(result))["returns"] == [1.0, 2.0, 6.0]
    assert summarize([Episode(0, 1.0, 5)], seed=0)["std"] == 0.0


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        scores = rng.normal(5.0, 2.0, 40)
        low, high = summarize([Episode(0, score, 1) for score in scores], seed=trial)["interval_95"]
        hits += low <= 5.0 <= high
    assert 87 <= hits <= 99
