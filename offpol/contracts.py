"""Whether parts answer as their Protocols in `offpol.types` say, shown a few rows before anything runs.

What broadcasts by accident, carries no gradient or has another meaning would train all the same, on something else.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import Tensor

from offpol import processes
from offpol.actions import are_distributions
from offpol.errors import ConfigError
from offpol.mixture import lags
from offpol.n_step_transitions import join_inputs
from offpol.types import (
    Behavior,
    Critic,
    Mixture,
    Network,
    Policy,
    PolicyInputs,
    Replay,
    Trace,
    TraceInputs,
    TraceTargets,
)

if TYPE_CHECKING:  # tensordict takes longer to import than torch
    from offpol.types import Batch

ROWS, ACTIONS = 4, 3  # that policies are shown


def require_members(part: object, seam: type) -> None:
    """Raise ConfigError for a part without what the Protocol of its seam asks for."""
    kinds = seam.__mro__[:-1]
    wanted = {name for kind in kinds for name in (*vars(kind), *inspect.get_annotations(kind)) if name[0] != "_"}
    methods = {name for name in wanted if callable(getattr(seam, name, None))}
    lacks = {name for name in wanted if not hasattr(part, name)}
    if lacking := sorted(lacks | {name for name in methods if not callable(getattr(part, name, None))}):
        raise ConfigError(
            f"{type(part).__name__} has no {', '.join(lacking[:4])}, which every {seam.__name__.lower()} has: see "
            f"offpol.types.{seam.__name__}, and the base classes that docs/extending.md names."
        )


def check_critic(critic: Critic, trace: Trace, window: int) -> None:
    """Show a critic the windows that traces are shown; raise ValueError where an answer is not what it must be."""
    name, members, bins = type(critic).__name__, critic.num_critics, len(critic.initial_logits)
    critic, inputs = copy.deepcopy(critic), _two_windows(window)
    with torch.random.fork_rng(devices=[]):
        logits = _waves(members, *inputs.q_values.shape, bins)  # [H, B, n+1, A, K]
        values = _floats(critic.value(logits), f"{name}.value", logits.shape[:-1])
        if not _near(critic.value(logits[..., :1, :]), values[..., :1]):
            raise ValueError(f"{name}.value mixes actions: logits [..., K] are decoded to [...], each action by itself")
        values = _waves(members, members + 2, members + 1)  # no two axes alike
        _floats(critic.join(values), f"{name}.join", values.shape[1:])
        answered = trace(inputs)
        targets = critic.targets(inputs, answered, logits, getattr(trace, "mixture", None))
        if not isinstance(targets, Tensor) or targets.shape[:2] != inputs.reward.shape:
            raise ValueError(f"{name}.targets gives {_said(targets)}, but a window's targets are [B, n, ...]")
        _floats(critic.clamp(answered.returns), f"{name}.clamp", answered.returns.shape)
        _check_loss(critic, targets.flatten(0, 1), bins)


def _check_loss(critic: Critic, targets: Tensor, bins: int) -> None:
    """Learn from targets [M, ...]: [H, M], each row from its own target."""
    name, logits = type(critic).__name__, _waves(critic.num_critics, len(targets), bins).requires_grad_()
    loss = _floats(critic.loss(logits, targets), f"{name}.loss", logits.shape[:-1])
    _require_gradient(loss, logits, name)
    if not _near(critic.loss(logits[:, :1], targets[:1]), loss[:, :1]):
        raise ValueError(
            f"{name}.loss compares a row with the targets of others, as [M, 1] broadcast against [M] does: of logits "
            "[H, M, K] each row has a target of its own"
        )


def check_policy(policy: Policy, critic: Critic, trace: Trace, window: int) -> None:
    """Show a policy some rows; raise ValueError where an answer is not what it must be."""
    name, policy = type(policy).__name__, copy.deepcopy(policy)
    with torch.random.fork_rng(devices=[]), processes.alone():
        q, logits = _waves(ROWS, ACTIONS), _waves(ROWS, ACTIONS, speed=2.9).requires_grad_(policy.learned)
        pi = _distribution(policy.probs(q, logits.detach().flip(0)), f"{name}.probs", q.shape)
        if not _near(policy.probs(q[:1], logits.detach().flip(0)[:1]), pi[:1]):
            raise ValueError(f"{name}.probs mixes rows: pi(.|s) is a function of one state's Q and logits")
        action, row = torch.arange(ROWS) % ACTIONS, _waves(ROWS)
        inputs = PolicyInputs(
            logits=logits, pi=pi, q_values=q, action=action, log_mu=row - 1.5, returns=row, advantage=row,
            share=torch.full((ROWS,), 1 / ROWS),
        )  # fmt: skip
        loss = [_loss(policy, inputs, measure) for measure in (False, True)][-1]
        if policy.learned:
            _require_gradient(loss, logits, name)
        elif bool(loss.any()):
            raise ValueError(
                f"{name} has a loss, but says `learned = False`, so that networks have no logits for it to train: "
                "derive it from offpol.policy_base.LearnedPolicy"
            )
        _check_regularised(policy, critic, trace, _two_windows(window))


def _loss(policy: Policy, inputs: PolicyInputs, measure: bool) -> Tensor:
    """Return a policy's losses [M]; ValueError where these, or the numbers to log, are none."""
    what, answer = f"{type(policy).__name__}.loss", cast(Any, policy.loss(inputs, measure))
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
        raise ValueError(f"{what} gives {_said(answer)}, but must give a pair: losses [M], and a dict to log")
    for metric, number in answer[1].items():
        if not isinstance(number, Tensor) or number.ndim:
            raise ValueError(f"{what} logs {metric}, which is {_said(number)}: log tensors without an axis")
    return _floats(answer[0], what, inputs.returns.shape)


def _check_regularised(policy: Policy, critic: Critic, trace: Trace, inputs: TraceInputs) -> None:
    """Refuse a bonus that nothing would learn from: distributions are made of rewards, pi and Q, not of v."""
    name, regular = type(policy).__name__, policy.regularise(inputs)
    if not isinstance(regular, TraceInputs) or not _same_shapes(regular, inputs):
        raise ValueError(f"{name}.regularise gives {_said(regular)}, but must give TraceInputs of the same shapes")
    if _near(regular.v, (regular.pi * regular.q_values).sum(-1)):
        return
    ignored = torch.equal(trace(regular).returns, trace(dataclasses.replace(regular, v=inputs.v)).returns)
    if critic.distributional or ignored:
        who = f"the critic {type(critic).__name__}" if critic.distributional else f"the trace {type(trace).__name__}"
        raise ValueError(
            f"{name}.regularise changes v, which {who} does not read: put the bonus of the next state into `reward`, "
            "times the discount"
        )


def check_behavior(behavior: Behavior, num_streams: int, num_actions: int) -> None:
    """Show a behavior values of all its streams; raise ValueError where it answers no distributions [E, A]."""
    q = _waves(num_streams, num_actions)
    with torch.random.fork_rng(devices=[]):
        probs = copy.deepcopy(behavior).probs(q, torch.softmax(q, -1), 0)
    _distribution(probs, f"{type(behavior).__name__}.probs", q.shape)


def check_trace(trace: Trace, window: int) -> None:
    """Show a trace operator two windows; raise ValueError where what it answers is not what it must be."""
    name, inputs = type(trace).__name__, _two_windows(window)
    trace = copy.deepcopy(trace)
    answered = _without_chance(trace, inputs)
    if not isinstance(answered, TraceTargets):
        raise ValueError(f"{name} answers a {type(answered).__name__}, but must answer offpol.types.TraceTargets")
    if not all(bool(values.isfinite().all()) for values in answered):
        raise ValueError(f"{name} answers what is not finite to windows that are: look for a log or a quotient of 0")
    if any(not torch.equal(*pair) for pair in zip(_fields(inputs), _fields(_two_windows(window)), strict=True)):
        raise ValueError(
            f"{name} changes its inputs in place, which others read after it: compute new tensors, as reward + 1 "
            "instead of reward.add_(1)"
        )
    if not _alike(answered, _without_chance(trace, inputs)):
        raise ValueError(
            f"{name} answers differently to the same windows: what it keeps from one call to the next would be lost "
            "with the run. Make it a function of its inputs, or keep that in a buffer of a policy or critic"
        )
    for field, values in answered._asdict().items():
        if values.shape != inputs.reward.shape:
            raise ValueError(
                f"{name} answers {field} of shape {tuple(values.shape)} to windows whose rewards [B, n] have shape "
                f"{tuple(inputs.reward.shape)}: all three answers are [B, n]"
            )
    if getattr(trace, "joins_steps", False):
        joined = _without_chance(trace, join_inputs(inputs)).returns
        if not torch.allclose(joined, answered.returns[:, :1], rtol=1e-4, atol=1e-5):
            raise ValueError(
                f"{name} says `joins_steps`, but its first returns are others where windows are joined to one n-step "
                "transition: leave the attribute out"
            )
    _check_batch_read(name, trace, inputs, answered)
    if (mixture := getattr(trace, "mixture", None)) is not None:
        _check_mixture(name, mixture, inputs, answered)
    if getattr(trace, "needs_mu", False):
        return
    if not _alike(answered, _without_chance(trace, dataclasses.replace(inputs, log_mu=inputs.log_mu.flip(1) - 0.3))):
        raise ValueError(
            f"{name} answers differently where the logged probability is another one, but does not say so: give the "
            "class `needs_mu: ClassVar[bool] = True`, so that it is refused where actions have no probability"
        )


def _check_batch_read(name: str, trace: Trace, inputs: TraceInputs, answered: TraceTargets) -> None:
    """Refuse a trace that looks at the whole batch without saying so, or says so and takes no weights."""
    if getattr(trace, "reads_batch", False):
        if not _near(cast(Any, trace)(inputs, torch.full((2,), 3.0)).returns, answered.returns):
            raise ValueError(f"{name} answers differently where weights, all of them alike, are given to its windows")
        return
    alone = dataclasses.replace(inputs, **{f.name: getattr(inputs, f.name)[1:] for f in dataclasses.fields(inputs)})
    if not _near(_without_chance(trace, alone).returns, answered.returns[1:]):
        raise ValueError(
            f"{name} answers a window differently where it is alone, but does not say so: give the class `reads_batch: "
            "ClassVar[bool] = True` if it is meant to look at the whole batch"
        )


def _check_mixture(name: str, mixture: str, inputs: TraceInputs, answered: TraceTargets) -> None:
    """Compare returns with the mean of the distributions that critics would learn by the mixture."""
    if mixture not in get_args(Mixture):
        raise ValueError(f"{name} says `mixture = {mixture!r}`, but it is one of {', '.join(get_args(Mixture))}")
    mean = torch.zeros_like(answered.returns)
    for m, lag in enumerate(lags(inputs, answered, cast(Mixture, mixture)), 1):
        bootstrap = lag.reward.unsqueeze(-1) + lag.discount.unsqueeze(-1) * inputs.q_values[:, m:]
        mean[:, : mean.shape[1] - m + 1] += (lag.weight * bootstrap).sum(-1)
    if not torch.allclose(mean, answered.returns, rtol=1e-4, atol=1e-5):
        raise ValueError(
            f"{name} says `mixture = {mixture!r}`, but its returns are not the mean of that mixture with the `trace` "
            "that it reports: critics of distributions would learn something else. Leave the attribute out, or mend one"
        )


def _without_chance(trace: Trace, inputs: TraceInputs) -> TraceTargets:
    """Trace with the same random numbers each time, none of which are the run's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trace(inputs)


def _alike(one: TraceTargets, two: TraceTargets) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, two, strict=True))


def _fields(inputs: TraceInputs) -> list[Tensor]:
    return [getattr(inputs, field.name) for field in dataclasses.fields(inputs)]


def _two_windows(n: int) -> TraceInputs:
    """Make windows of n transitions and two actions, the second one with an episode's end in it."""
    numbers = torch.arange(4.0 * (n + 1))
    waves = numbers[: 2 * n].view(2, n)
    ends = torch.zeros(2, n, dtype=torch.bool)
    ends[1, n // 2] = True
    return TraceInputs.of(
        q_values=(numbers * 0.9).cos().view(2, n + 1, 2),
        pi=torch.softmax((numbers * 1.7).sin().view(2, n + 1, 2), -1), action=((waves * 2.3).sin() > 0).long(),
        reward=waves - 2.0, discount=torch.where(ends, 0.0, 0.9), log_mu=(0.5 + 0.4 * (waves * 0.7).sin()).log(),
        valid_next=~ends,
    )  # fmt: skip


def check_network(network: Network, obs: Tensor, num_actions: int, critic: Critic, needs_mu: bool) -> None:
    """Show a network observations [M, *obs_shape]; raise ValueError where what it answers is not what it must be."""
    name, bins = type(network).__name__, len(critic.initial_logits)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        first, second = network(obs), network(obs)
    wanted = {"q_logits": (critic.num_critics, len(obs), num_actions, bins), "policy_logits": (len(obs), num_actions)}
    for field, shape in wanted.items():
        got = getattr(first, field, None)
        if not isinstance(got, Tensor) or got.shape != shape:
            found = f"of shape {tuple(got.shape)}" if isinstance(got, Tensor) else f"that are {type(got).__name__}"
            raise ValueError(
                f"{name} answers {field} {found} to {len(obs)} observations, but they must be of shape {shape}: "
                "critics, observations, actions, bins, or for the policy observations, actions"
            )
    # A GPU may add up the two in another order.
    near = 0.0 if obs.device.type == "cpu" else 1e-3
    if needs_mu and not torch.allclose(first.q_logits, second.q_logits, rtol=near, atol=near / 10):
        raise ValueError(
            f"{name} answers differently to the same observations (by dropout?), so that actions would not have the "
            "probability that is logged, which the trace or the policy reads: take the noise out, or use others"
        )


def check_buffers(network: Network) -> None:
    """Raise ValueError for a network that keeps what neither target networks nor actors would be given."""
    parameters: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    kept = [name for name in network.state_dict() if name not in parameters]
    if kept:
        raise ValueError(
            f"the network keeps buffers ({', '.join(kept[:3])}), which neither its target network nor actors elsewhere "
            "would follow: normalise by LayerNorm instead of BatchNorm, keep what is learned as a parameter with "
            "requires_grad=False, and what is constant by register_buffer(..., persistent=False)"
        )


def check_batch(batch: Batch, replay: Replay, batch_size: int, window: int) -> None:
    """Look at the first windows that a replay delivered; raise ConfigError where they are not laid out as `Batch` says.

    No replay can be asked before rows are in it.
    """
    whole, real, flag = torch.int64, torch.float32, torch.bool
    of_rows = {
        "action": whole, "reward": real, "terminated": flag, "truncated": flag, "valid": flag, "valid_next": flag,
        "behavior_log_prob": real, "policy_version": whole,
    }  # fmt: skip
    of_windows = {"index": whole, "generation": whole, "probability": real, "replay_weight": real}
    shapes = dict.fromkeys(of_rows, (batch_size, window)) | dict.fromkeys(of_windows, (batch_size,))
    for name, dtype in (of_rows | of_windows).items():
        values = getattr(batch, name, None)
        if not isinstance(values, Tensor) or values.shape != shapes[name] or values.dtype != dtype:
            raise ConfigError(
                f"{type(replay).__name__}.sample gives {name} as {_said(values)}, but it must be {shapes[name]} of "
                f"{dtype} (offpol.types.Batch)."
            )
    if batch.obs.shape[:2] != (batch_size, window + 1):
        raise ConfigError(
            f"{type(replay).__name__}.sample gives obs as {_said(batch.obs)}, but it must begin by "
            f"{(batch_size, window + 1)}: the row after a window's last is bootstrapped from."
        )


def _waves(*shape: int, speed: float = 1.3) -> Tensor:
    """Return numbers in [-1, 1], no two of them alike."""
    return (torch.arange(1.0, 1.0 + torch.Size(shape).numel()) * speed).sin().view(shape)


def _floats(answer: Any, what: str, shape: tuple[int, ...]) -> Tensor:
    """Return an answer; raise ValueError unless it is a tensor of that shape, of what everything is computed in."""
    dtype = torch.get_default_dtype()
    if not isinstance(answer, Tensor) or answer.shape != shape or answer.dtype != dtype:
        raise ValueError(f"{what} gives {_said(answer)}, but must give {tuple(shape)} of {dtype}")
    return answer


def _distribution(answer: Any, what: str, shape: tuple[int, ...]) -> Tensor:
    probs = _floats(answer, what, shape)
    if not are_distributions(probs.detach().numpy()).all():
        raise ValueError(f"{what} gives {probs[0].tolist()}, which is no distribution over actions: it must sum to 1")
    return probs


def _require_gradient(loss: Tensor, logits: Tensor, name: str) -> None:
    if not loss.requires_grad or not bool(torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0].any()):
        raise ValueError(
            f"{name}.loss has no gradient in the logits, so that nothing would be learned: is it detached?"
        )


def _near(one: Any, two: Tensor) -> bool:
    return isinstance(one, Tensor) and one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def _same_shapes(one: TraceInputs, two: TraceInputs) -> bool:
    return all(a.shape == b.shape for a, b in zip(_fields(one), _fields(two), strict=True))


def _said(answer: Any) -> str:
    """Say what something is."""
    if not isinstance(answer, Tensor):
        return f"a {type(answer).__name__}"
    return f"{tuple(answer.shape)} of {answer.dtype}"
