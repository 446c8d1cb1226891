"""Whether a trace operator is a function of its windows, and says what it reads."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, cast, get_args

import torch
from torch import Tensor

from offpol.contracts.answers import fields_of, near, said, two_windows, untouched
from offpol.mixture import lags
from offpol.n_step_transitions import join_inputs
from offpol.types import Mixture, Trace, TraceInputs, TraceTargets


def check_trace(trace: Trace, window: int) -> None:
    """Show a trace operator two windows; raise ValueError where what it returns is not what it must be."""
    name, inputs = type(trace).__name__, two_windows(window)
    trace = copy.deepcopy(trace)
    with untouched(name, *fields_of(inputs)):
        answered = _without_chance(trace, inputs)
    if not isinstance(answered, TraceTargets):
        raise ValueError(f"{name} returns a {type(answered).__name__}, but must return offpol.types.TraceTargets")
    for field, values in answered._asdict().items():
        if not isinstance(values, Tensor) or values.dtype != inputs.reward.dtype:
            raise ValueError(f"{name} gives {field} as {said(values)}, but must give a tensor of {inputs.reward.dtype}")
        if values.shape != inputs.reward.shape:
            raise ValueError(
                f"{name} gives {field} of shape {tuple(values.shape)} for windows whose rewards [B, n] have shape "
                f"{tuple(inputs.reward.shape)}: all three are [B, n]"
            )
    if not all(bool(values.isfinite().all()) for values in answered):
        raise ValueError(f"{name} returns what is not finite for windows that are: look for a log or a quotient of 0")
    if not _alike(answered, _without_chance(trace, inputs)):
        raise ValueError(
            f"{name} returns something else for the same windows: what it keeps from one call to the next would be "
            "lost with the run. Make it a function of its inputs, or keep that in a buffer of a policy or critic"
        )
    _check_joined(name, trace, inputs, answered)
    _check_batch_read(name, trace, inputs, answered)
    if (mixture := getattr(trace, "mixture", None)) is not None:
        _check_mixture(name, mixture, inputs, answered)
    _check_mu_read(name, trace, inputs, answered)


def _check_joined(name: str, trace: Trace, inputs: TraceInputs, answered: TraceTargets) -> None:
    """Refuse a trace that says that windows may be joined to n-step transitions, and reads what is in between."""
    if getattr(trace, "joins_steps", False):
        joined = _without_chance(trace, join_inputs(inputs)).returns
        if not torch.allclose(joined, answered.returns[:, :1], rtol=1e-4, atol=1e-5):
            raise ValueError(
                f"{name} says `joins_steps`, but its first returns are others where windows are joined to one n-step "
                "transition: leave the attribute out"
            )


def _check_mu_read(name: str, trace: Trace, inputs: TraceInputs, answered: TraceTargets) -> None:
    """Refuse a trace that reads the logged probabilities without saying so."""
    others = dataclasses.replace(inputs, log_mu=inputs.log_mu.flip(1) - 0.3)
    if not getattr(trace, "needs_mu", False) and not _alike(answered, _without_chance(trace, others)):
        raise ValueError(
            f"{name} returns something else where the logged probability is another one, but does not say so: give the "
            "class `needs_mu: ClassVar[bool] = True`, so that it is refused where actions have no probability"
        )


def _check_batch_read(name: str, trace: Trace, inputs: TraceInputs, answered: TraceTargets) -> None:
    """Refuse a trace that looks at the whole batch without saying so, or says so and takes no weights."""
    if getattr(trace, "reads_batch", False):
        if not near(cast(Any, trace)(inputs, torch.full((2,), 3.0)).returns, answered.returns):
            raise ValueError(
                f"{name} returns something else where weights, all of them alike, are given to its windows"
            )
        return
    alone = dataclasses.replace(inputs, **{f.name: getattr(inputs, f.name)[1:] for f in dataclasses.fields(inputs)})
    if not near(_without_chance(trace, alone).returns, answered.returns[1:]):
        raise ValueError(
            f"{name} returns something else for a window that is alone, but does not say so: give the class "
            "`reads_batch: ClassVar[bool] = True` if it is meant to look at the whole batch"
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
