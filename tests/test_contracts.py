"""Parts of one's own that answer something else than their Protocols say are refused, by name, before a run."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from offpol.actor import Actor
from offpol.contracts.behaviors import check_behavior
from offpol.contracts.critics import check_critic
from offpol.contracts.envs import check_env
from offpol.contracts.members import require_members
from offpol.contracts.policies import check_policy
from offpol.contracts.replays import check_batch, check_state
from offpol.contracts.traces import check_trace
from offpol.critic.hl_gauss import HLGauss
from offpol.critic.quantile import Quantile
from offpol.critic_base import CriticBase
from offpol.env.chain import Chain
from offpol.errors import ConfigError
from offpol.policy.greedy import Greedy
from offpol.policy_base import LearnedPolicy, PolicyBase
from offpol.replay.uniform import Uniform
from offpol.scan import q_targets, ratio
from offpol.trace.retrace import Retrace
from offpol.trace.watkins import Watkins
from offpol.types import (
    Behavior,
    Critic,
    EnvSpec,
    EnvStep,
    Policy,
    PolicyInputs,
    Replay,
    Rows,
    Topology,
    Trace,
    TraceInputs,
    TraceTargets,
)  # fmt: skip

Mistake = tuple[Callable[..., Any], str | None]


def refused(sentence: str | None) -> contextlib.AbstractContextManager[object]:
    return pytest.raises(ValueError, match=sentence) if sentence else contextlib.nullcontext()


class Squared(CriticBase):
    """Squared errors of two members with one output each."""

    def __init__(self) -> None:
        super().__init__(1, 2, 0, False, "none")

    def value(self, logits: Tensor) -> Tensor:
        return logits.squeeze(-1)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.squeeze(-1) - targets).square()


CRITICS: dict[str, tuple[str, Mistake]] = {
    "nothing": ("value", (lambda self, logits: logits.squeeze(-1), None)),
    "a broadcast": (
        "loss",
        (lambda self, x, y: (x - y).square().mean(-1), "compares a row with the targets of others"),
    ),
    "a mean over rows": (
        "loss",
        (lambda self, x, y: (x.squeeze(-1) - y).square().mean(), r"gives \(\) of torch.float32"),
    ),
    "one member": (
        "loss",
        (lambda self, x, y: (x.squeeze(-1) - y).square()[0], r"loss gives \(10,\) of torch.float32"),
    ),
    "a detached loss": (
        "loss",
        (lambda self, x, y: (x.detach().squeeze(-1) - y).square(), "no gradient in the logits"),
    ),
    "a loss in float64": (
        "loss",
        (lambda self, x, y: (x.squeeze(-1).double() - y).square(), "of torch.float64, but must"),
    ),
    "a value with bins": ("value", (lambda self, x: x, r"value gives \(2, 2, 6, 2, 1\)")),
    "a value of all actions": ("value", (lambda self, x: x.squeeze(-1).cumsum(-1).flip(-1), "value mixes actions")),
    "no join": ("join", (lambda self, x: x, r"join gives \(2, 4, 3\)")),
    "the wrong join": ("join", (lambda self, x: x.mean(-1), r"join gives \(2, 4\)")),
    "targets without windows": ("targets", (lambda self, i, t, q, m: t.returns[:, 0], "a window's targets are")),
    "a value in place": ("value", (lambda self, x: x.sub_(1).squeeze(-1), r"Mine\.value changes its inputs in place")),
    "a clamp in place": ("clamp", (lambda self, x: x.clamp_(-1, 1), r"Mine\.clamp changes its inputs in place")),
    "a loss that is NaN": ("loss", (lambda self, x, y: x.squeeze(-1) * torch.nan, "loss gives NaN for finite numbers")),
    "no clamp": ("clamp", (lambda self, x: None, "clamp gives a NoneType")),
}


@pytest.mark.parametrize("wrong", CRITICS)
def test_a_critic_answers_what_it_must(wrong: str) -> None:
    method, (answer, sentence) = CRITICS[wrong]
    critic = type("Mine", (Squared,), {method: answer})()
    before = torch.get_rng_state()
    with refused(sentence):
        check_critic(critic, Retrace(0.9), 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("part", [object(), torch.nn.Identity()], ids=["an object", "a module"])
@pytest.mark.parametrize("seam", [Critic, Policy])
def test_what_a_part_lacks_is_named(part: object, seam: type) -> None:
    name = type(part).__name__
    with pytest.raises(
        ConfigError, match=f"{name} has no .*, which every {seam.__name__.lower()} has: see offpol.types"
    ):
        require_members(part, seam)
    require_members(Squared(), Critic)
    require_members(Greedy(False), Policy)


class Unmade(PolicyBase):
    def __init__(self) -> None:
        """Forget that an nn.Module has to be made."""


def test_a_part_without_its_one_method_is_named() -> None:
    for seam, method in ((Trace, "__call__"), (Behavior, "probs"), (Topology, "run")):
        with pytest.raises(ConfigError, match=f"object has no {method}, which every {seam.__name__.lower()} has"):
            require_members(object(), seam)
    require_members(Retrace(0.9), Trace)
    with pytest.raises(ConfigError, match=r"Unmade\.__init__ does not call super\(\).__init__\(\)"):
        require_members(Unmade(), Policy)


class Cloned(LearnedPolicy):
    """Behavior cloning."""

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        log_pi = torch.log_softmax(inputs.logits, -1)
        return -log_pi.gather(-1, inputs.action.unsqueeze(-1)).squeeze(-1), {}


POLICIES: dict[str, tuple[type, str, Mistake]] = {
    "nothing": (Cloned, "reads_rows", ("trained", None)),
    "no distribution": (Cloned, "probs", (lambda self, q, x: torch.softmax(x, -1) / 2, "which is no distribution")),
    "one column": (Cloned, "probs", (lambda self, q, x: torch.ones_like(x[:, :1]), r"gives \(4, 1\)")),
    "other rows": (Cloned, "probs", (lambda self, q, x: torch.softmax(x - 9 * q.mean(0), -1), "probs mixes rows")),
    "in place": (
        Cloned,
        "probs",
        (lambda self, q, x: torch.softmax(q.sub_(q.amax(-1, keepdim=True)), -1), r"Mine\.probs changes its inputs"),
    ),
    "no gradient": (Cloned, "loss", (lambda self, i, m=False: (i.returns, {}), "no gradient in the logits")),
    "no pair": (Cloned, "loss", (lambda self, i, m=False: i.logits.sum(-1), r"gives \(4,\) of .* must give a pair")),
    "a mean": (Cloned, "loss", (lambda self, i, m=False: (i.logits.sum(), {}), r"loss gives \(\)")),
    "rows to log": (
        Cloned,
        "loss",
        (lambda self, i, m=False: (i.logits.sum(-1), {"x": i.returns}), "logs x, which is"),
    ),
    "a number of offpol's": (
        Cloned,
        "loss",
        (
            lambda self, i, m=False: (i.logits.sum(-1), {"epsilon": i.returns[0]}),
            "logs epsilon, which is a number that",
        ),
    ),
    "not learned": (PolicyBase, "loss", (lambda self, i, m=False: (i.returns, {}), "says `learned = False`")),
    "no inputs": (Cloned, "regularise", (lambda self, i: None, "regularise gives a NoneType")),
}


@pytest.mark.parametrize("wrong", POLICIES)
def test_a_policy_answers_what_it_must(wrong: str) -> None:
    base, method, (answer, sentence) = POLICIES[wrong]
    own = {"probs": lambda self, q, logits: torch.softmax(q, -1), method: answer}
    policy = type("Mine", (base,), own if base is PolicyBase else {method: answer})()
    with refused(sentence):
        check_policy(policy, Squared(), Retrace(0.9), 5)


class Soft(Cloned):
    """A bonus where no distributional critic, and no maximum, would see it."""

    def regularise(self, inputs: TraceInputs) -> TraceInputs:
        return replace(inputs, v=inputs.v + 0.1)


def test_a_bonus_goes_where_it_is_learned_from() -> None:
    quantile = Quantile(7, 1.0, 1, False)
    check_policy(Soft(), Squared(), Retrace(0.9), 5)
    with pytest.raises(ValueError, match=r"Soft\.regularise changes v, which the critic Quantile does not read"):
        check_policy(Soft(), quantile, Retrace(0.9), 5)
    with pytest.raises(ValueError, match="changes v, which the trace Watkins does not read: put the bonus"):
        check_policy(Soft(), Squared(), Watkins(0.9, None), 5)


@dataclass(frozen=True)
class Mine:
    """Retrace, with a mixture that may be another's."""

    needs_mu: ClassVar[bool] = True
    mixture: str = "taken"

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, ratio(inputs, 1.0), inputs.v)


class Greedily(Mine):
    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, ratio(inputs, 1.0), inputs.q_values.amax(-1))


class Misreported(Mine):
    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return super().__call__(inputs)._replace(trace=torch.ones_like(inputs.reward))


class InPlace(Mine):
    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        inputs.reward.clamp_(-0.05, 0.05)
        return super().__call__(inputs)


class Infinite(Mine):
    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, (inputs.reward - inputs.reward).log() * 0, inputs.v)


class Numpy(Mine):
    def __call__(self, inputs: TraceInputs) -> Any:
        return super().__call__(inputs)._replace(returns=inputs.reward.numpy())


class Precise(Mine):
    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return super().__call__(inputs)._replace(returns=inputs.reward.double())


class Alone(Mine):
    def __call__(self, inputs: TraceInputs) -> Any:
        return super().__call__(inputs).returns


@pytest.mark.parametrize(
    ("trace", "sentence"),
    [(Mine(), None), (Mine(mixture="expected"), "returns are not the mean of that mixture"),
     (Mine(mixture="takn"), "says `mixture = 'takn'`, but it is one of taken, expected"),
     (Greedily(), "returns are not the mean"), (Misreported(), "returns are not the mean"),
     (InPlace(), "changes its inputs in place"), (Infinite(), "returns what is not finite"),
     (Numpy(), "gives returns as a ndarray, but must give a tensor of torch.float32"),
     (Precise(), r"gives returns as \(2, 5\) of torch.float64, but must give a tensor of torch.float32"),
     (Alone(), "returns a Tensor, but must return offpol.types.TraceTargets")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_trace_answers_what_it_must(trace: Mine, sentence: str | None) -> None:
    with refused(sentence):
        check_trace(trace, 5)


BEHAVIORS: dict[str, Mistake] = {
    "nothing": (lambda self, q, pi, steps: pi, None),
    "one column": (
        lambda self, q, pi, steps: torch.ones(len(q), 1),
        r"gives \(6, 1\) of torch.float32, but must give \(6, 3\)",
    ),
    "one row": (lambda self, q, pi, steps: pi[0], r"gives \(3,\)"),
    "actions": (lambda self, q, pi, steps: q.argmax(-1), r"gives \(6,\) of torch.int64"),
    "numpy": (lambda self, q, pi, steps: np.ones((6, 3)) / 3, "gives a ndarray"),
    "float64": (lambda self, q, pi, steps: pi.double(), "of torch.float64, but must give"),
    "no distribution": (lambda self, q, pi, steps: pi / 2, "which is no distribution over actions"),
    "in place": (lambda self, q, pi, steps: torch.softmax(q.mul_(2), -1), "changes its inputs in place"),
    "by chance": (lambda self, q, pi, steps: torch.softmax(torch.rand(6, 3), -1), "something else for the same values"),
}


class Buffered(Chain):
    """Writes into one array."""

    def step(self, action: np.ndarray) -> EnvStep:
        step = super().step(action)
        self.buffer = getattr(self, "buffer", step.obs)
        self.buffer[...] = step.obs
        return step._replace(obs=self.buffer)


class GoesOn(Chain):
    """Resets in the step that ends an episode, as gymnasium's SAME_STEP."""

    def step(self, action: np.ndarray) -> EnvStep:
        step = super().step(action)
        return step._replace(valid=np.ones_like(step.valid))


class Doubled(Chain):
    def step(self, action: np.ndarray) -> EnvStep:
        step = super().step(action)
        return step._replace(reward=step.raw_reward)


class Listed(Chain):
    def step(self, action: np.ndarray) -> EnvStep:
        step = super().step(action)
        return step._replace(terminated=step.terminated.tolist())


class Flattened(Chain):
    def reset(self) -> np.ndarray:
        return super().reset()[0]


class Unsaved(Chain):
    def state_dict(self) -> dict[str, Any]:
        return {"state": np.zeros(3)}


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(Chain, None), (Buffered, "writes into observations that it returned before"),
     (GoesOn, "goes on after an episode was truncated"), (Unsaved, r"state_dict\(\).state is a ndarray"),
     (Doubled, r"Doubled.step's reward is \(1,\) of float64, but must be an array \(1,\) of float32"),
     (Listed, "Listed.step's terminated is a list"), (Flattened, r"Flattened.reset is \(8,\) of float32, but must")],
)  # fmt: skip
def test_an_env_steps_as_it_must(kind: type[Chain], sentence: str | None) -> None:
    env = kind(8, 0.1, 0.1, 1.0, 9, num_envs=1, seed=0)
    with pytest.raises(ConfigError, match=f"env: .*{sentence}") if sentence else contextlib.nullcontext():
        check_env(env)


def test_what_an_env_raises_itself_comes_through() -> None:
    class Dead(Chain):
        def step(self, action: np.ndarray) -> EnvStep:
            raise ValueError("no licence")

    with pytest.raises(ValueError, match=r"^no licence$") as raised:
        check_env(Dead(8, 0.1, 0.1, 1.0, 9, num_envs=1, seed=0))
    assert not isinstance(raised.value, ConfigError)


def test_an_episode_that_goes_on_after_its_end_stops_the_actor() -> None:
    env = GoesOn(8, 0.1, 0.1, 1.0, 5, num_envs=2, seed=0)
    even: Any = SimpleNamespace(probs=lambda q, pi, agent_steps: pi)
    actor = Actor(env, even, lambda obs: (torch.zeros(2, 2), torch.full((2, 2), 0.5)), seed=0)
    for step in range(5):
        actor.step(actor.act(step, 0))
    with pytest.raises(ValueError, match=r"Chain-8\.step goes on after an episode was truncated"):
        actor.step(actor.act(5, 0))


@pytest.mark.parametrize("wrong", BEHAVIORS)
def test_a_behavior_answers_what_it_must(wrong: str) -> None:
    answer, sentence = BEHAVIORS[wrong]
    with refused(sentence):
        check_behavior(type("Mine", (), {"probs": answer})(), 6, 3)


def test_a_behavior_follows_q_or_the_policy() -> None:
    answer = {"probs": lambda self, q, pi, steps: pi}
    check_behavior(type("Mine", (), {**answer, "over": "policy"})(), 6, 3)
    with refused("Mine.over says what it follows, by which the final games are played: it must be 'q' or 'policy'"):
        check_behavior(type("Mine", (), {**answer, "over": "pi"})(), 6, 3)


def test_ensembles_that_draw_members_are_what_they_must_be() -> None:
    check_critic(HLGauss(-1.0, 1.0, 7, 0.75, "none", 3, 2, False), Retrace(0.9), 1)


@dataclass(frozen=True)
class Centred:
    """Looks at the whole batch, without saying so."""

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        returns = inputs.reward - inputs.reward.mean()
        return TraceTargets(returns, returns, torch.ones_like(returns))


class SaysSo(Centred):
    reads_batch: ClassVar[bool] = True

    def __call__(self, inputs: TraceInputs, weight: Tensor | None = None) -> TraceTargets:
        share = torch.ones(len(inputs.reward)) if weight is None else weight
        returns = inputs.reward - (share @ inputs.reward).mean() / share.sum()
        return TraceTargets(returns, returns, torch.ones_like(returns))


class Forgets(SaysSo):
    """Does not divide weights by their sum."""

    def __call__(self, inputs: TraceInputs, weight: Tensor | None = None) -> TraceTargets:
        returns = inputs.reward * (1.0 if weight is None else weight.sum())
        return TraceTargets(returns, returns, torch.ones_like(returns))


def test_a_trace_that_looks_at_the_whole_batch_says_so() -> None:
    with pytest.raises(ValueError, match="Centred returns something else for a window that is alone"):
        check_trace(Centred(), 4)
    check_trace(SaysSo(), 4)
    with pytest.raises(ValueError, match="Forgets returns something else where weights, all of them alike"):
        check_trace(Forgets(), 4)


class NoPriorities(Uniform):
    update_priorities = None


def filled(**changes: Any) -> tuple[Uniform, Any]:
    """A replay, and a batch of four windows of it with some of the fields replaced by functions of themselves."""
    replay = Uniform(50, "memory", None, spec=EnvSpec("short", 2, 2, (3,), torch.float32), window=2, seed=0)
    for _ in range(9):
        replay.add(Rows(
            obs=np.zeros((2, 3), np.float32), action=np.zeros(2, int), reward=np.zeros(2, np.float32),
            terminated=np.zeros(2, bool), truncated=np.zeros(2, bool), valid=np.ones(2, bool),
            behavior_log_prob=np.zeros(2, np.float32), policy_version=np.zeros(2, int),
        ))  # fmt: skip
    batch = replay.sample(4)
    fields = {name: changes.get(name, lambda same: same)(values) for name, values in batch.items()}
    return replay, SimpleNamespace(**fields)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({}, None),
    ({"reward": lambda reward: reward[:, :1]}, r"Uniform.sample gives reward as \(4, 1\) .* must be \(4, 2\)"),
    ({"reward": Tensor.double}, "gives reward as .* of torch.float64, but it must be .* of torch.float32"),
    ({"replay_weight": lambda weight: weight[:, None]}, r"replay_weight as \(4, 1\)"),
    ({"valid_next": lambda flags: flags[:, :1]}, r"valid_next as \(4, 1\)"),
    ({"index": Tensor.int}, "index as .*int32"),
    ({"obs": lambda obs: obs[:, 1:]}, r"obs as \(4, 2, 3\) .* must begin by \(4, 3\)"),
    ({"generation": lambda _: None}, "generation as a NoneType"),
])  # fmt: skip
def test_what_a_replay_delivers_is_looked_at(changes: dict[str, Any], sentence: str | None) -> None:
    replay, batch = filled(**changes)
    with pytest.raises(ConfigError, match=sentence) if sentence else contextlib.nullcontext():
        check_batch(batch, replay, batch_size=4, window=2)


def test_a_replay_can_be_saved_before_it_is_filled() -> None:
    replay, _ = filled()
    check_state(replay)
    for answer, sentence in (
        (lambda since=None: {"key": print}, r"state_dict\(\)\.key is a builtin_function_or_method"),
        (lambda: {}, "does not take `since`"),
        (lambda since=None: torch.stack([]), None),  # it has none yet
    ):
        replay.state_dict = answer
        with pytest.raises(ConfigError, match=sentence) if sentence else contextlib.nullcontext():
            check_state(replay)


def test_a_replay_has_all_of_its_methods() -> None:
    replay, _ = filled()
    require_members(replay, Replay)
    replay.__class__ = NoPriorities
    with pytest.raises(ConfigError, match="NoPriorities has no update_priorities, which every replay has"):
        require_members(replay, Replay)
