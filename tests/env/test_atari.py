"""The Atari env against a plain emulator loop; what the protocol's fields mean; refusals."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
from env_factory import make
from naive_atari import NaiveAtari

from offpol.atari_protocol import AtariProtocol, rom_name, title
from offpol.env.atari import Atari

PROTOCOL = AtariProtocol(
    "test", 0.0, 0, False, "ignored", False, True, 4, True, 108000, 84, True, 4, evaluation_epsilon=0.0
)
ARGUMENTS = {"game": "Breakout", "num_threads": 1, "anchor_agent_steps": 10, "protocol": PROTOCOL}


class Naive(NamedTuple):
    """What the plain loop says of one stream's row."""

    obs: np.ndarray
    raw_reward: int
    over: bool
    truncated: bool
    life_lost: bool
    valid: bool


def play_naively(naive, actions):
    """Play one stream as rows, with the step after a game's end starting the next."""
    over, rows = False, []
    for action in actions:
        if over:
            rows.append(Naive(naive.reset(), 0, False, False, False, valid=False))
        else:
            rows.append(Naive(*naive.step(action), valid=True))
        over = rows[-1].over or rows[-1].truncated
    return rows


@pytest.mark.parametrize(
    ("game", "max_frames", "life_loss"), [("Breakout", 108000, "terminates"), ("MsPacman", 902, "ignored")]
)
def test_equals_a_plain_emulator_loop_over_several_games(game, max_frames, life_loss):
    """Truth table of all flags, raw and clipped rewards, pooled and stacked frames, sticky actions; 2 streams."""
    env = make(
        "atari", f"env.game={game}", "env/preset=sticky", f"env.protocol.life_loss={life_loss}",
        f"env.protocol.max_frames_per_episode={max_frames}",
    )  # fmt: skip
    rom = "breakout" if game == "Breakout" else "ms_pacman"
    actions = np.random.default_rng(3).integers(env.spec.num_actions, size=(460, 2))
    first = env.reset()
    steps = [env.step(action) for action in actions]
    games = lives = 0
    for stream in range(2):
        naive = NaiveAtari(rom, env._anchor_seed(stream), sticky=0.25, max_frames=max_frames)
        assert np.abs(first[stream] - naive.reset()).max() < 0.51
        rows = play_naively(naive, actions[:, stream])
        for step, row in zip(steps, rows, strict=True):
            assert np.abs(step.obs[stream] - row.obs).max() < 0.51  # 0.5 from rounding to bytes
            assert step.raw_reward[stream] == row.raw_reward
            assert step.reward[stream] == np.clip(row.raw_reward, -1, 1)
            assert step.valid[stream] == row.valid
            assert step.game_over[stream] == (row.over or row.truncated)
            assert step.truncated[stream] == row.truncated
            assert step.terminated[stream] == (row.over or (life_loss == "terminates" and row.life_lost))
        games += sum(row.over or row.truncated for row in rows)
        lives += sum(row.life_lost for row in rows)
    assert games >= 2, "the test has seen too little"
    assert lives >= 2, "the test has seen too little"
    assert max(step.raw_reward.max() for step in steps) > (1 if game == "MsPacman" else 0)
    env.close()


def test_a_life_lost_on_the_last_frame_both_terminates_and_truncates():
    """ALE's own life_loss_info hides the truncation here, and with it the reset that follows."""
    calm = ["env/preset=sticky", "env.protocol.sticky_probability=0.0", "env.protocol.life_loss=terminates"]
    actions = np.random.default_rng(0).integers(4, size=(400, 1))
    env = make("atari", *calm, num_envs=1)
    env.reset()
    lost_at = next(t for t, action in enumerate(actions, start=1) if env.step(action).terminated[0])
    env.close()
    env = make("atari", *calm, f"env.protocol.max_frames_per_episode={4 * lost_at}", num_envs=1)
    env.reset()
    steps = [env.step(action) for action in actions[: lost_at + 1]]
    last, after = steps[-2], steps[-1]
    assert last.terminated[0]
    assert last.truncated[0]
    assert last.game_over[0]
    assert not after.valid[0]
    assert not after.obs[0, :-1].any()  # a new game: nothing older in the stack
    env.close()


def test_a_new_game_with_fewer_lives_than_the_last_one_had_lost_none():
    """A game cut while it had a bonus life, followed by the next: the emulators are played by a script."""
    env = Atari(**(ARGUMENTS | {"protocol": dataclasses.replace(PROTOCOL, life_loss="terminates")}), num_envs=1, seed=0)
    env.reset()
    script = iter([(6, False), (6, True), (5, False), (4, False)])  # lives, truncated

    def step(action):
        lives, truncated = next(script)
        no = np.zeros(1, dtype=bool)
        return np.zeros((1, 4, 84, 84), np.uint8), np.zeros(1), no, no | truncated, {"lives": np.array([lives])}

    env._emulators.step = step
    steps = [env.step(np.zeros(1, dtype=int)) for _ in range(4)]
    assert [bool(step.terminated[0]) for step in steps] == [False, False, False, True]
    assert [bool(step.valid[0]) for step in steps] == [True, True, False, True]
    env.close()


CHANGES = {
    "sticky_probability": 0.0, "noop_max": 17, "fire_reset": True, "life_loss": "terminates",
    "full_action_space": True, "reward_clipping": False, "frame_skip": 3, "max_pool": False,
    "max_frames_per_episode": 100, "screen_size": 42, "grayscale": False, "stack": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def sticky_rows():
    return play_up_n_down()


def play_up_n_down(**changes):
    overrides = [f"env.protocol.{field}={value}" for field, value in changes.items()]
    env = make("atari", "env.game=UpNDown", "env/preset=sticky", *overrides, num_envs=1, seed=5)
    rng = np.random.default_rng(5)
    rows = [env.reset(), *(env.step(rng.integers(6, size=1)) for _ in range(160))]
    env.close()
    return [np.concatenate([np.ravel(field) for field in row]) if isinstance(row, tuple) else row for row in rows]


@pytest.mark.parametrize("field", CHANGES)
def test_every_choice_of_the_protocol_reaches_the_emulator(field, sticky_rows):
    rows = play_up_n_down(**{field: CHANGES[field]})
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(rows, sticky_rows, strict=True))


def test_all_protocol_fields_are_covered():
    fields = {field.name for field in dataclasses.fields(AtariProtocol)}
    assert set(CHANGES) == fields - {"name", "evaluation_epsilon"}


@pytest.mark.parametrize("max_frames", [480, 482])
def test_a_limit_of_frames_is_a_quarter_of_it_in_decisions(max_frames):
    """With four frames each, the last decision being the one in which the limit is passed."""
    env = make("atari", "env/preset=sticky", f"env.protocol.max_frames_per_episode={max_frames}", num_envs=1)
    env.reset()
    steps = [env.step(np.zeros(1, dtype=int)) for _ in range(2 * -(-max_frames // 4) + 2)]  # nobody presses FIRE
    ends = [t for t, step in enumerate(steps, start=1) if step.truncated[0]]
    assert ends == [-(-max_frames // 4), 2 * -(-max_frames // 4) + 1]  # the step in between starts a game
    assert not any(step.terminated[0] for step in steps)
    env.close()


@pytest.mark.slow
def test_108_000_frames_are_27_000_decisions():
    env = make("atari", "env/preset=atari100k", "env.protocol.noop_max=0", num_envs=1)
    env.reset()
    decisions = 1
    while not env.step(np.zeros(1, dtype=int)).truncated[0]:
        decisions += 1
    assert decisions == 27_000
    env.close()


@pytest.mark.parametrize("id", ["ALE/Breakout-v5", "ale_py:ALE/Breakout-v5", "BreakoutNoFrameskip-v4", "Breakout-v4"])
def test_atari_cannot_be_played_past_its_protocol(id):
    """Else its frames could be skipped twice, or its sticky actions differ from what a report says."""
    with pytest.raises(ValueError, match="play it by env=atari"):
        make("gymnasium", f"env.id={id}")


def test_colors_and_single_frames():
    env = make("atari", "env.protocol.grayscale=false", "env.protocol.stack=1")
    assert env.reset().shape == (2, 3, 84, 84) == (2, *env.spec.obs_shape)
    env.close()


@pytest.mark.parametrize("spelling", ["MsPacman", "ms_pacman", "MSPACMAN", "Ms Pacman"])
def test_games_are_found_in_any_spelling(spelling):
    assert rom_name(spelling) == "ms_pacman"
    assert title(rom_name(spelling)) == "MsPacman"


@pytest.mark.parametrize(
    ("game", "near"), [("Brekout", "Breakout"), ("MsPackman", "MsPacman"), ("SpaceInvader", "SpaceInvaders")]
)
def test_an_unknown_game_is_refused_with_the_nearest_name(game, near):
    with pytest.raises(ValueError, match=f"{game}.*'{near}'"):
        Atari(**(ARGUMENTS | {"game": game}), num_envs=1, seed=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sticky_probability", 1.0), ("noop_max", -1), ("frame_skip", 0), ("stack", 0), ("screen_size", 0),
        ("max_frames_per_episode", 0), ("life_loss", "resets"), ("evaluation_epsilon", 1.5),
    ],
)  # fmt: skip
def test_impossible_protocols_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(PROTOCOL, **{field: value})


@pytest.mark.parametrize("change", [{"num_threads": -1}, {"anchor_agent_steps": 0}])
def test_impossible_arguments_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Atari(**(ARGUMENTS | change), num_envs=1, seed=0)


def test_stepping_or_saving_before_the_first_reset_is_refused():
    env = Atari(**ARGUMENTS, num_envs=1, seed=0)
    for call in (lambda: env.step(np.zeros(1, dtype=int)), env.state_dict, env.render):
        with pytest.raises(RuntimeError, match="reset"):
            call()
    env.close()


def test_pictures_show_what_is_played():
    env = make("atari", "env.game=MsPacman", "env/preset=sticky", "env.protocol.max_pool=false")
    env.reset()
    naive = NaiveAtari("ms_pacman", env._anchor_seed(0), sticky=0.25, max_frames=108000)
    naive.reset()
    actions = np.random.default_rng(0).integers(9, size=(60, 2))
    for step, action in enumerate(actions):
        env.step(action)
        naive.step(action[0])
        if step in (20, 21, 59):  # looking now and then, and twice in a row
            np.testing.assert_array_equal(env.render(), naive.ale.getScreenRGB())
    env.close()


def test_the_number_of_threads_changes_nothing():
    runs = []
    for threads in (1, 2):
        env = make("atari", "env/preset=sticky", f"env.num_threads={threads}")
        rng = np.random.default_rng(0)
        runs.append([env.reset(), *(env.step(rng.integers(4, size=2)).obs for _ in range(60))])
        env.close()
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)
