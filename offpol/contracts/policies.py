"""Whether a policy returns distributions, and losses that it can learn from."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, cast

import torch
from torch import Tensor

from offpol import processes
from offpol.contracts.answers import (
    distribution,
    fields_of,
    floats,
    near,
    require_gradient,
    said,
    same_shapes,
    two_windows,
    untouched,
    waves,
)
from offpol.types import Critic, Policy, PolicyInputs, Trace, TraceInputs

ROWS, ACTIONS = 4, 3  # that policies are shown
LOGGED_BY_OFFPOL = {  # of a row of metrics.jsonl
    "advantage_abs_mean", "agent_steps", "critic_loss", "dropped_priorities", "epsilon", "episode_length_agent_steps",
    "episode_return", "episodes", "frames", "gamma", "gradient_norm", "log_mu_minus_log_pi", "loss", "one_step_share",
    "online_policy_entropy", "outside_support_share", "policy_entropy", "policy_lag_updates", "policy_lag_updates_max",
    "policy_loss", "replay_ratio", "replay_weight_mean", "replay_windows", "returns_mean", "reward_mean",
    "rho_clipped_share", "rho_ess", "rho_mean", "rows_lost", "sample_age_updates", "td_error_abs_mean",
    "trace_cut_share", "trace_length", "trace_length_uncut", "trained_share", "updates", "value_mean", "window",
}  # fmt: skip
PREFIXES_OF_OFFPOL = ("by_age/", "machine/", "trace_end/")


def check_policy(policy: Policy, critic: Critic, trace: Trace, window: int) -> None:
    """Show a policy some rows; raise ValueError where an answer is not what it must be."""
    name, policy = type(policy).__name__, copy.deepcopy(policy)
    with torch.random.fork_rng(devices=[]), processes.alone():
        q, logits = waves(ROWS, ACTIONS), waves(ROWS, ACTIONS, speed=2.9).requires_grad_(policy.learned)
        others = logits.detach().flip(0)
        with untouched(f"{name}.probs", q, others):
            pi = distribution(policy.probs(q, others), f"{name}.probs", q.shape)
        if not near(policy.probs(q[:1], others[:1]), pi[:1]):
            raise ValueError(f"{name}.probs mixes rows: pi(.|s) is a function of one state's Q and logits")
        action, row = torch.arange(ROWS) % ACTIONS, waves(ROWS)
        inputs = PolicyInputs(
            logits=logits, pi=pi, q_values=q, action=action, log_mu=row - 1.5, returns=row, advantage=row,
            share=torch.full((ROWS,), 1 / ROWS),
        )  # fmt: skip
        with untouched(f"{name}.loss", *fields_of(inputs)):
            loss = [_loss(policy, inputs, measure) for measure in (False, True)][-1]
        if policy.learned:
            require_gradient(loss, logits, name)
        elif bool(loss.any()):
            raise ValueError(
                f"{name} has a loss, but says `learned = False`, so that networks have no logits for it to train: "
                "derive it from offpol.policy_base.LearnedPolicy"
            )
        _check_regularised(policy, critic, trace, two_windows(window))


def _loss(policy: Policy, inputs: PolicyInputs, measure: bool) -> Tensor:
    """Return a policy's losses [M]; ValueError where these, or the numbers to log, are none."""
    what, answer = f"{type(policy).__name__}.loss", cast(Any, policy.loss(inputs, measure))
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
        raise ValueError(f"{what} gives {said(answer)}, but must give a pair: losses [M], and a dict to log")
    for metric, number in answer[1].items():
        if metric in LOGGED_BY_OFFPOL or metric.startswith(PREFIXES_OF_OFFPOL):
            raise ValueError(f"{what} logs {metric}, which is a number that offpol logs: give yours another name")
        if not isinstance(number, Tensor) or number.ndim:
            raise ValueError(f"{what} logs {metric}, which is {said(number)}: log tensors without an axis")
    return floats(answer[0], what, inputs.returns.shape)


def _check_regularised(policy: Policy, critic: Critic, trace: Trace, inputs: TraceInputs) -> None:
    """Refuse a bonus that nothing would learn from: distributions are made of rewards, pi and Q, not of v."""
    name = type(policy).__name__
    with untouched(f"{name}.regularise", *fields_of(inputs)):
        regular = policy.regularise(inputs)
    if not isinstance(regular, TraceInputs) or not same_shapes(regular, inputs):
        raise ValueError(f"{name}.regularise gives {said(regular)}, but must give TraceInputs of the same shapes")
    if near(regular.v, (regular.pi * regular.q_values).sum(-1)):
        return
    ignored = torch.equal(trace(regular).returns, trace(dataclasses.replace(regular, v=inputs.v)).returns)
    if critic.distributional or ignored:
        who = f"the critic {type(critic).__name__}" if critic.distributional else f"the trace {type(trace).__name__}"
        raise ValueError(
            f"{name}.regularise changes v, which {who} does not read: put the bonus of the next state into `reward`, "
            "times the discount"
        )
