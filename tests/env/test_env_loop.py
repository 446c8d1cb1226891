"""The loop over single envs: ends of episodes, seeds, resuming; and the gymnasium adapter on top of it."""

import contextlib

import gymnasium
import numpy as np
import pytest
import torch
from env_factory import make
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Sequence

from offpol.env.gymnasium import Gymnasium
from offpol.env_loop import EnvLoop
from offpol.errors import ConfigError, RunError
from offpol.types import EnvSpec


class Script:
    """Episodes of given lengths and ends; observations count steps, rewards say which step it was."""

    def __init__(self, episodes):
        self.episodes, self.number, self.seeds = episodes, -1, []

    def reset(self, *, seed):
        self.number, self.at = self.number + 1, 0
        self.seeds.append(seed)
        return self._obs(), {}

    def step(self, action):
        self.at += 1
        length, end = self.episodes[self.number % len(self.episodes)]
        last = self.at == length
        return self._obs(), 100 * self.number + self.at, last and "T" in end, last and "C" in end, {"action": action}

    def _obs(self):
        return np.array([self.number, self.at])

    def close(self):
        self.closed = True


def loop_of(*scripts):
    return EnvLoop(scripts, EnvSpec("script", len(scripts), 2, (2,), torch.float32), seed=3)


def test_truth_table_of_ends_and_rows_of_episodes_of_length_one():
    """T terminates, C cuts: stored transitions are the real env's, whenever and however episodes end."""
    env = loop_of(Script([(1, "T"), (1, "C"), (3, "TC"), (2, "T")]), Script([(4, "C"), (1, "TC")]))
    env.reset()
    steps = [env.step(np.array([0, 1])) for _ in range(9)]
    rows = [  # episode, step, reward, terminated, truncated, valid
        [(0, 1, 1, 1, 0, 1), (1, 0, 0, 0, 0, 0), (1, 1, 101, 0, 1, 1), (2, 0, 0, 0, 0, 0), (2, 1, 201, 0, 0, 1),
         (2, 2, 202, 0, 0, 1), (2, 3, 203, 1, 1, 1), (3, 0, 0, 0, 0, 0), (3, 1, 301, 0, 0, 1)],
        [(0, 1, 1, 0, 0, 1), (0, 2, 2, 0, 0, 1), (0, 3, 3, 0, 0, 1), (0, 4, 4, 0, 1, 1), (1, 0, 0, 0, 0, 0),
         (1, 1, 101, 1, 1, 1), (2, 0, 0, 0, 0, 0), (2, 1, 201, 0, 0, 1), (2, 2, 202, 0, 0, 1)],
    ]  # fmt: skip
    for t, step in enumerate(steps):
        for stream in range(2):
            got = (*step.obs[stream], step.raw_reward[stream], step.terminated[stream], step.truncated[stream])
            assert (*got, step.valid[stream]) == rows[stream][t]
            assert step.game_over[stream] == (step.terminated[stream] or step.truncated[stream])


def test_every_episode_of_every_stream_has_its_own_seed_that_depends_on_nothing_else():
    def seeds(lengths, root=3):
        scripts = [Script([(length, "T")]) for length in lengths]
        env = EnvLoop(scripts, EnvSpec("script", len(scripts), 2, (2,), torch.float32), seed=root)
        env.reset()
        for _ in range(30):
            env.step(np.zeros(len(scripts), dtype=int))
        return [script.seeds[:5] for script in scripts]

    two = seeds([1, 4])
    assert len({*two[0], *two[1]}) == 10
    assert seeds([5, 2, 3])[:2] == two  # neither lengths nor the other streams matter
    assert not {*two[0]} & {*seeds([1], root=4)[0]}


@pytest.mark.parametrize("saved", range(9))
def test_goes_on_from_every_step(saved):
    def start():
        return make("gymnasium", "+env.make_kwargs.max_episode_steps=4", num_envs=3)

    env = start()
    env.reset()
    actions = np.random.default_rng(0).integers(2, size=(30, 3))
    for action in actions[:saved]:
        env.step(action)
    other = start()
    other.load_state_dict(env.state_dict())
    for action in actions[saved:]:
        for a, b in zip(env.step(action), other.step(action), strict=True):
            np.testing.assert_array_equal(a, b)


class Restless(gymnasium.Env):
    """Ignores its seed."""

    observation_space, action_space = Box(0, 1, (1,)), Discrete(2)
    starts = 0

    def reset(self, *, seed=None, options=None):
        Restless.starts += 1
        return np.array([Restless.starts], dtype=np.float32), {}

    def step(self, action):
        return np.array([Restless.starts], dtype=np.float32), 1.0, False, False, {}


class Shown(gymnasium.Env):
    """Any spaces; observations are the first of what the space samples."""

    def __init__(self, observation_space, action_space=None, render_mode=None):
        self.observation_space, self.action_space = observation_space, action_space or Discrete(3)

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        self.shown = self.observation_space.sample()
        return self.shown, {}

    def step(self, action):
        return self.shown, 0.0, False, False, {}


@pytest.fixture
def registered():
    """Register the envs above for one test."""
    ids = {"Restless-v0": lambda render_mode=None: Restless(), "Shown-v0": Shown}
    for id, entry_point in ids.items():
        gymnasium.register(id, entry_point=entry_point)
    yield
    for id in ids:
        del gymnasium.registry[id]


def shown(num_envs=1, **spaces):
    return Gymnasium("Shown-v0", spaces, False, render=False, num_envs=num_envs, seed=0)


def test_an_episode_that_does_not_follow_from_its_seed_is_refused_on_load(registered):
    env = Gymnasium("Restless-v0", {}, False, render=False, num_envs=1, seed=0)
    env.reset()
    with pytest.raises(RunError, match="Restless-v0 cannot go on"):
        env.load_state_dict(env.state_dict())


@pytest.mark.parametrize("outcome", [(1.0, False, True), (0.5, False, False)])
def test_other_rewards_or_ends_than_the_checkpoints_are_refused_on_load(outcome):
    """Observations alone would not tell; without checksums of the outcomes, as before, nothing does."""

    class Varying(Script):
        outcome = 1.0, False, False

        def step(self, action):
            obs, *_, info = super().step(action)
            return obs, *self.outcome, info

    env, again, other, unchecked = (loop_of(Varying([(9, "T")]), Varying([(9, "T")])) for _ in range(4))
    env.reset()
    for _ in range(3):
        env.step(np.array([0, 1]))
    state = env.state_dict()
    assert len(set(state["outcomes"])) == 1
    again.load_state_dict(state)
    assert again.state_dict()["outcomes"] == state["outcomes"]
    other._envs[1].outcome = unchecked._envs[1].outcome = outcome
    with pytest.raises(RuntimeError, match="led to other rewards or ends, so the env"):
        other.load_state_dict(state)
    del state["outcomes"]
    unchecked.load_state_dict(state)


def test_an_env_that_was_not_started_says_so():
    env = make("gymnasium")
    for call in (lambda: env.step(np.zeros(2, dtype=int)), env.state_dict):
        with pytest.raises(RuntimeError, match="reset"):
            call()


@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (Box(-1, 1, (5,), np.float64), (5,), torch.float32),
        (Box(-1, 1, (), np.float32), (1,), torch.float32),
        (Box(0, 255, (12,), np.uint8), (12,), torch.uint8),
        (Box(0, 255, (8, 6, 3), np.uint8), (3, 8, 6), torch.uint8),
        (Box(0, 255, (4, 8, 6), np.uint8), (4, 8, 6), torch.uint8),
        (Box(0, 1, (8, 6, 3), np.float32), (3, 8, 6), torch.float32),
        (Box(0, 9, (2, 2), np.int64), (2, 2), torch.float32),
        (Discrete(7), (7,), torch.float32),
        (MultiBinary(4), (4,), torch.float32),
        (Dict(a=Discrete(3), b=Box(0, 1, (2, 2))), (7,), torch.float32),
    ],
)
def test_observation_spaces(registered, space, shape, dtype):
    env = shown(observation_space=space)
    assert (env.spec.frame_shape, env.spec.dtype) == (shape, dtype)
    obs, truth = env.reset()[0], env._envs[0].unwrapped.shown
    if isinstance(space, Box):
        channels_first = truth.transpose(2, 0, 1) if shape == (3, 8, 6) else truth
        np.testing.assert_array_equal(obs, channels_first.astype(obs.dtype))
    elif isinstance(space, Discrete):
        np.testing.assert_array_equal(obs, np.eye(7)[truth])


@pytest.mark.parametrize(("space", "high"), [(Box(0, 255, (2,), np.uint8), 255), (Box(0, 1, (2,), np.uint8), 1)])
def test_bytes_are_scaled_by_the_largest_there_is(registered, space, high):
    assert shown(observation_space=space).spec.obs_scale == 1 / high


class Plain(gymnasium.Env):
    """As one writes it at home: no render_mode; `given` is what it returns as observations."""

    observation_space, action_space = Box(0, 255, (2,), np.uint8), Discrete(2)

    def __init__(self, begun=((0, 0), {}), given=(0, 0)):
        self.begun, self.given = begun, given

    def reset(self, *, seed=None, options=None):
        return self.begun

    def step(self, action):
        return self.given, 0.0, False, False, {}


BYTES = np.zeros(2, np.uint8)


@pytest.mark.parametrize(("kwargs", "sentence"), [
    ({"begun": (BYTES, {}), "given": BYTES}, None),
    ({"begun": BYTES}, r"reset must return \(observation, info\)"),
    ({"begun": (BYTES[:1], {})}, r"observation of shape \(1,\) and type uint8, but says that they are \(2,\)"),
    ({"begun": (BYTES / 2, {})}, r"type float64, but says that they are \(2,\) and uint8"),
    ({"begun": (BYTES, {}), "given": np.zeros((2, 1), np.uint8)}, r"observation of shape \(2, 1\)"),
])  # fmt: skip
def test_what_an_env_delivers_is_what_it_says(kwargs, sentence):
    gymnasium.register("Plain-v0", entry_point=Plain)
    try:
        env = Gymnasium("Plain-v0", kwargs, False, False, num_envs=1, seed=0)
    finally:
        del gymnasium.registry["Plain-v0"]
    with pytest.raises(TypeError, match=sentence) if sentence else contextlib.nullcontext():
        env.reset()
        env.step(np.array([0]))


def test_the_memory_of_an_atari_game_can_be_watched():
    env = make("gymnasium", "env.id=ALE/Breakout-v5", "+env.make_kwargs.obs_type=ram", num_envs=1)
    assert env.reset().shape == (1, 128)


@pytest.mark.parametrize(
    "actions", [Box(-1, 1, (2,)), MultiBinary(2), Discrete(3, start=1)], ids=["box", "binary", "start 1"]
)
def test_other_action_spaces_are_refused_by_name(registered, actions):
    with pytest.raises(ValueError, match="Shown-v0 has the action space"):
        shown(observation_space=Box(0, 1, (2,)), action_space=actions)


def test_observations_without_a_fixed_shape_are_refused(registered):
    with pytest.raises(ValueError, match="Shown-v0 has observations"):
        shown(observation_space=Sequence(Discrete(3)))


@pytest.mark.parametrize("override", ["env.id=CartPol-v1", "env.id=No/Such-v3", "+env.make_kwargs.gravitation=9"])
def test_what_gymnasium_cannot_make_is_told_in_one_sentence(override):
    with pytest.raises(ValueError, match="cannot be built") as caught:
        make("gymnasium", override)
    assert "\n" not in str(caught.value)


def test_make_kwargs_reach_the_env():
    env = make("gymnasium", "env.id=FrozenLake-v1", "+env.make_kwargs.is_slippery=false", num_envs=1)
    obs = [env.reset().argmax()] + [env.step(np.array([action])).obs.argmax() for action in (2, 2, 1)]
    assert obs == [0, 1, 2, 6]


@pytest.mark.parametrize(("clipping", "learned"), [("false", -100), ("true", -1)])
def test_clipped_rewards_are_learned_from_and_raw_ones_are_scored(clipping, learned):
    """CliffWalking's cliff costs 100, a step 1."""
    env = make("gymnasium", "env.id=CliffWalking-v1", f"env.reward_clipping={clipping}", num_envs=1)
    env.reset()
    step = env.step(np.array([1]))  # right, down the cliff
    assert (step.reward[0], step.raw_reward[0]) == (learned, -100)


def test_pictures_need_to_be_asked_for():
    env = make("gymnasium")
    env.reset()
    with pytest.raises(RuntimeError, match=r"env\.render=true"):
        env.render()


def test_pictures_that_need_another_package_name_it(monkeypatch):
    env = make("gymnasium", "env.render=true", num_envs=1)
    env.reset()

    def lacking() -> None:
        raise DependencyNotInstalled("pygame is not installed, run `pip install pygame`")

    monkeypatch.setattr(env._envs[0], "render", lacking)
    with pytest.raises(ConfigError, match="CartPole-v1 cannot be pictured: pygame is not installed"):
        env.render()


def test_an_env_that_raises_is_named():
    scripts = [Script([(9, "T")]) for _ in range(3)]
    env = loop_of(*scripts)
    env.reset()
    scripts[1].episodes = ()
    with pytest.raises(ZeroDivisionError) as raised:
        env.step(np.zeros(3, int))
    assert raised.value.__notes__ == ["That was env 1 of 0 to 2."]
    env._over[0] = True
    scripts[0].reset = lambda seed: 1 / 0
    with pytest.raises(ZeroDivisionError) as raised:  # in the reset after an episode's end
        env.step(np.zeros(3, int))
    assert raised.value.__notes__ == ["That was env 0 of 0 to 2."]


@pytest.mark.parametrize("stepped", [(np.zeros(2), 0.0, False, {}), (np.zeros(2), None, False, False, {}), None])
def test_a_step_of_another_form_is_told(stepped):
    script = Script([(9, "T")])
    env = loop_of(script)
    env.reset()
    script.step = lambda action: stepped
    with pytest.raises(TypeError, match=r"step must return \(observation, reward, terminated, truncated, info\)"):
        env.step(np.zeros(1, int))


def test_close_closes_every_env():
    scripts = [Script([(1, "T")]), Script([(1, "T")])]
    loop_of(*scripts).close()
    assert all(script.closed for script in scripts)
