"""Windows of an uncorrected n-step agent are joined to n-step transitions: the same learning from fewer rows."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_agent import CONSTANT, HEADS, SPEC, make_batch
from torch import nn

from offpol.agent import Agent, TargetConfig
from offpol.combinations import check_parts
from offpol.contracts.traces import check_trace
from offpol.critic.categorical import Categorical
from offpol.critic.hl_gauss import HLGauss
from offpol.critic.quantile import Quantile
from offpol.critic.scalar import Scalar
from offpol.layers import HeadsConfig
from offpol.n_step_transitions import n_step
from offpol.network.mlp import MLP
from offpol.optimizer import OptimizerConfig
from offpol.policy.advantage_weighted import AdvantageWeighted
from offpol.policy.greedy import Greedy
from offpol.policy.munchausen import Munchausen
from offpol.policy.softmax_q import SoftmaxQ
from offpol.policy_base import PolicyBase
from offpol.scan import lambda_returns
from offpol.temperature import TemperatureConfig
from offpol.trace.n_step import NStep
from offpol.trace.retrace import Retrace
from offpol.types import Batch, Outputs, TraceInputs, TraceTargets

CRITICS: dict[str, Callable[[], nn.Module]] = {
    "scalar": lambda: Scalar("mse", 1.0, "none", 1, 0, False),
    "hl_gauss": lambda: HLGauss(-5.0, 5.0, 21, 0.75, "none", 1, 0, False),
    "categorical": lambda: Categorical(-5.0, 5.0, 21, 1, False),
    "quantile": lambda: Quantile(8, 1.0, 1, False),
    "minimum of two": lambda: Scalar("mse", 1.0, "none", 3, 2, False),
}
POLICIES: dict[str, Callable[[], nn.Module]] = {
    "greedy": lambda: Greedy(False),
    "double": lambda: Greedy(True),
    "softmax": lambda: SoftmaxQ(0.5, False),
    "advantage_weighted": lambda: AdvantageWeighted(
        "all", "exp", "value", 20.0, 0.7, TemperatureConfig("scale", 1.0, 0.15, 0.02, 0.99)
    ),
    "munchausen": lambda: Munchausen(0.03, 0.9, -1.0),
}

# Numbers that do not depend on the values of the windows' first rows, for which one of the two may spare a network.
ALIKE = (
    "loss", "critic_loss", "policy_loss", "td_error_abs_mean", "gradient_norm", "outside_support_share", "trace_length",
    "trace_length_uncut", "reward_mean", "sample_age_updates", "trace_end/episode", "trace_end/window",
)  # fmt: skip


class WholeWindows(NStep):
    """The same returns, from windows that are left as they are."""

    joins_steps: ClassVar[bool] = False


def make_agent(trace: NStep, policy: str, critic: str, heads: HeadsConfig = HEADS) -> Agent:
    torch.manual_seed(0)
    built = CRITICS[critic]()
    outputs = Outputs(built.initial_logits, built.num_critics, True)
    return Agent(
        partial(MLP, (16,), False, heads, spec=SPEC, outputs=outputs), built, POLICIES[policy](), trace, gamma=0.9,
        window=4, train_positions=1, batch_size=5, policy_coefficient=1.0, priority_max_share=0.9,
        target=TargetConfig(0.5, 1, False), optimizer=OptimizerConfig(1e-3, 1e-5, 0.0, 10.0), **CONSTANT,
    )  # fmt: skip


def windows(seed: int = 1) -> Batch:
    """Make windows of four: one ends its episode at once, one is truncated after two steps, three are whole."""
    batch = make_batch(3, seed=seed)
    batch = Batch(
        **{name: torch.cat([v, v[:, -1:]], 1) if v.ndim > 1 else v for name, v in batch.items()}, batch_size=[5]
    )
    batch.truncated[1, 1] = True
    batch.valid_next[1, 1] = batch.valid[1, 2] = False
    batch.terminated[2, 2] = True  # a life lost, after which the game goes on
    return batch


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("policy", POLICIES)
def test_joined_windows_teach_the_same(policy: str, critic: str) -> None:
    agents = [make_agent(NStep(), policy, critic), make_agent(WholeWindows(), policy, critic)]
    assert agents[0].joins_steps == (policy != "munchausen")
    assert not agents[1].joins_steps
    torch.manual_seed(0)
    for seed in range(3):
        state = torch.get_rng_state()
        updates = []
        for agent in agents:
            torch.set_rng_state(state)  # for members drawn at random
            updates.append(agent.update(windows(seed), measure=seed == 1))
        torch.testing.assert_close(updates[0].priority, updates[1].priority, rtol=1e-4, atol=1e-5)
        for name in ALIKE if seed == 1 else ():
            got, want = (update.metrics[name] for update in updates)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4, msg=name)
    vectors = [nn.utils.parameters_to_vector(agent.parameters) for agent in agents]
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-3, atol=1e-5)


def test_the_networks_are_shown_two_rows_of_a_window() -> None:
    agent, shown = make_agent(NStep(), "double", "categorical"), []
    for name in ("network", "target_network"):
        getattr(agent, name).register_forward_pre_hook(
            lambda _, inputs, name=name: shown.append((name, len(inputs[0])))
        )
    agent.update(windows())
    assert sorted(shown) == [("network", 5), ("network", 5), ("target_network", 5)]
    shown.clear()
    agent.update(windows(), measure=True)
    assert sorted(shown)[2:] == [("network", 25), ("target_network", 5), ("target_network", 25)]


@pytest.mark.parametrize("critic", ["categorical", "minimum of two"])
def test_measuring_changes_nothing_where_networks_draw_noise(critic: str) -> None:
    """It looks at all rows of the windows, and what it draws for that it draws aside."""
    vectors = []
    for measure in (False, True):
        agent = make_agent(NStep(), "double", critic, HeadsConfig(16, 8, False, False, 0.5, True))
        for seed in range(3):
            agent.update(windows(seed), measure=measure)
        vectors.append(nn.utils.parameters_to_vector(agent.parameters))
    torch.testing.assert_close(vectors[0], vectors[1], rtol=0, atol=0)


@given(st.integers(1, 6), st.integers(0, 10_000))
def test_the_sum_is_the_first_n_step_return(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reward = torch.randn(3, n, generator=generator, dtype=torch.float64)
    discount = torch.where(torch.rand(3, n, generator=generator) < 0.2, 0.0, 0.9).double()
    valid_next = torch.rand(3, n, generator=generator) < 0.7
    q_values = torch.randn(3, n + 1, 2, generator=generator, dtype=torch.float64)
    pi = torch.full_like(q_values, 0.5)
    inputs = TraceInputs.of(
        q_values, pi, torch.zeros(3, n, dtype=torch.int64), reward, discount, torch.zeros_like(reward), valid_next
    )
    total, joint, row = n_step(reward, discount, valid_next)
    got = total + joint * inputs.v.gather(1, row)
    torch.testing.assert_close(got, lambda_returns(inputs, 1.0)[:, :1], rtol=0, atol=1e-12)


def test_a_trace_that_wrongly_says_it_joins_steps_is_refused() -> None:
    class Hopeful(Retrace):
        joins_steps: ClassVar[bool] = True

        def __call__(self, inputs: TraceInputs) -> TraceTargets:
            return super().__call__(inputs)

    with pytest.raises(ValueError, match="Hopeful says `joins_steps`, but its first returns are others"):
        check_trace(Hopeful(0.9), 3)
    check_trace(NStep(), 3)


def test_a_policy_that_changes_rewards_must_say_that_it_reads_all_rows() -> None:
    class Bonus(PolicyBase):
        def regularise(self, inputs: TraceInputs) -> TraceInputs:
            return inputs

    with pytest.raises(ValueError, match='give the class `reads_rows = "all"`'):
        check_parts(nn.Identity(), CRITICS["scalar"](), Bonus(), NStep(), 3)
