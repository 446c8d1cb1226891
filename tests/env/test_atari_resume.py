"""Exact resuming of Atari: from anywhere, in any constellation of anchors, to the bit."""

import numpy as np
import pytest
from env_factory import make

ANCHOR_STEPS, STEPS, CONTINUED = 60, 440, 110
SETTINGS = {  # random games of about 180 steps; the limit cuts some of them, so streams fall out of step
    "sticky": ["env.game=Breakout", "env/preset=sticky", "env.protocol.max_frames_per_episode=800"],
    "lives and no-ops": ["env.game=RoadRunner", "env/preset=classic", "env.protocol.max_frames_per_episode=800"],
}


def build(setting):
    return make("atari", *SETTINGS[setting], f"env.anchor_agent_steps={ANCHOR_STEPS}")


class Recording:
    """One uninterrupted run that is saved at every step, with what is known of each step."""

    def __init__(self, setting):
        env = build(setting)
        env.reset()
        # Streams fall out of step with each other: the second game-over comes at another time in each.
        self.actions = np.random.default_rng(7).integers(env.spec.num_actions, size=(STEPS, 2))
        self.steps, self.states = [], []
        for action in self.actions:
            self.steps.append(env.step(action))
            self.states.append(env.state_dict())
        env.close()

    def moments(self):
        """Find steps to save after, by what makes them hard."""
        over = np.array([step.game_over for step in self.steps])
        begun = np.array([~step.valid for step in self.steps])
        anchors = np.array([state["anchors"] for state in self.states])
        anchored = np.diff(anchors, axis=0, prepend=0) > 0
        apart = anchors[:, 0] != anchors[:, 1]
        kinds = {"over": over.any(1), "begun": begun.any(1), "anchored": anchored.any(1), "apart": apart}
        return {kind: np.flatnonzero(where[: STEPS - CONTINUED]) for kind, where in kinds.items()}


@pytest.fixture(scope="module", params=SETTINGS)
def recording(request):
    return request.param, Recording(request.param)


def assert_continues(env, recording, saved):
    env.load_state_dict(recording.states[saved])
    following = slice(saved + 1, saved + 1 + CONTINUED)
    for action, wanted in zip(recording.actions[following], recording.steps[following], strict=True):
        for name, a, b in zip(wanted._fields, env.step(action), wanted, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{name}, saved after step {saved}")


def test_continues_to_the_bit_from_hard_moments(recording):
    setting, run = recording
    moments = run.moments()
    env = build(setting)
    for saved in sorted({0, moments["anchored"][-1]} | {steps[0] for steps in moments.values()}):
        assert_continues(env, run, int(saved))
    env.close()


def test_anchors_bound_the_log(recording):
    _, run = recording
    lengths = [len(state["log"]) for state in run.states]
    assert min(run.states[-1]["anchors"]) >= 2
    assert all(min(state["start"]) == 0 for state in run.states)
    assert max(lengths) < 2 * (ANCHOR_STEPS + 200)  # the laggard's anchor, and how far the other may be ahead


def test_a_state_that_leads_elsewhere_is_refused(recording):
    setting, run = recording
    state = dict(run.states[40])
    state["log"] = state["log"].clone()
    state["log"][5:30] = 0
    env = build(setting)
    with pytest.raises(RuntimeError, match="ale-py"):
        env.load_state_dict(state)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("game", ["Breakout", "MsPacman", "Pong", "Qbert", "Seaquest"])
@pytest.mark.parametrize("preset", ["sticky", "atari100k"])
def test_continues_after_thousands_of_steps(preset, game):
    def start():
        return make("atari", f"env.game={game}", f"env/preset={preset}", "env.anchor_agent_steps=700", num_envs=4)

    one, other = start(), start()
    one.reset()
    actions = np.random.default_rng(0).integers(one.spec.num_actions, size=(4000, 4))
    for action in actions[:3000]:
        one.step(action)
    other.load_state_dict(one.state_dict())
    for action in actions[3000:]:
        for a, b in zip(one.step(action), other.step(action), strict=True):
            np.testing.assert_array_equal(a, b)
    one.close()
    other.close()
