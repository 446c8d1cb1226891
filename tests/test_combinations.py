"""Combinations that mean nothing are refused from the command line, at start, in a sentence with the way out."""

import contextlib
from pathlib import Path

import pytest
import torch
from command import call

from offpol.combinations import check_parts
from offpol.contracts.answers import waves
from offpol.contracts.networks import check_bfloat16, check_network, shown_observations
from offpol.contracts.traces import check_trace
from offpol.critic.hl_gauss import HLGauss
from offpol.layers import HeadsConfig
from offpol.main import main
from offpol.network.mlp import MLP
from offpol.policy.greedy import Greedy
from offpol.scan import q_targets
from offpol.trace.retrace import Retrace
from offpol.types import EnvSpec, NetworkOutput, Outputs, TraceInputs, TraceTargets

VECTOR = EnvSpec("vector", 2, 3, (4,), torch.float32)

COMBINATIONS = {
    "network.heads.noisy=0.5": "Retrace compares pi with the logged probability, which noisy layers do not have",
    "trace=one_step policy=policy_gradient network.heads.noisy=0.5": "PolicyGradient compares pi with the logged",
    "critic=categorical trace=vtrace": "Categorical learns distributions, but the trace VTrace is no mixture",
    "critic=quantile trace=watkins": "Quantile learns distributions, but the trace Watkins is no mixture",
    "trace=gae": "GAE corrects nothing, but replayed data is off-policy",
    "trace=puffer policy=policy_gradient": "Puffer's advantage is multiplied by pi/mu already",
    "trace=puffer policy=cmpo policy.gradient=1.0": "use policy.correction=none (policy_gradient), policy.gradient=0",
    "experiment=rainbow topology=threads": "noisy layers need topology=sync",
    "experiment=bc": "name the folder of a finished run or minari:ID",
    "critic.num_critics=2 critic.minimum_of=3": "minimum_of must lie between 0 (the mean) and num_critics (2)",
    "policy.advantage=returns": "returns exist for one action only",
    "policy.actions=logged": "temperature.control 'entropy' needs actions 'all' and weight 'exp'",
    "agent.train_positions=9": "train_positions must lie between 1 and the window (5)",
    "agent.annealing.over_updates=9 agent.annealing.window_end=6": "window_end must lie between train_positions (1)",
    "agent.batch_size=100000": "raise replay.capacity or lower the batch",
}


@pytest.mark.parametrize("words", COMBINATIONS)
def test_refused(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    result = call(main, ("task=chain", *words.split(), f"hydra.run.dir={tmp_path / 'run'}"), monkeypatch, capfd)
    assert result.code == 2
    assert COMBINATIONS[words] in result.err
    assert "Traceback" not in result.err
    told = [line for line in result.err.splitlines() if "the task is put on top of the experiment" not in line]
    assert len(told) == 1
    assert not (tmp_path / "run").exists()


def small_network() -> MLP:
    heads = HeadsConfig(8, 8, False, False, 0.0, True)
    return MLP((8,), False, heads, spec=VECTOR, outputs=Outputs(torch.zeros(7), 2, True))


class Fewer(MLP):
    """One bin where the critic has seven: its softmax would be 1 whatever is learned."""

    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        output = super().forward(obs)
        return output._replace(q_logits=output.q_logits[..., :1])


class Flat(MLP):
    """No axis of critics."""

    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        output = super().forward(obs)
        return output._replace(q_logits=output.q_logits[0])


class Dropping(MLP):
    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        return super().forward(torch.nn.functional.dropout(obs, 0.5, self.training))


class Scaling(MLP):
    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        return super().forward(obs.mul_(0.5))


class Centring(MLP):
    """Sees an observation beside the others of its batch."""

    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        return super().forward(obs - obs.mean(0))


class Double(MLP):
    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        return NetworkOutput(*(logits.double() for logits in super().forward(obs)))


class Detached(MLP):
    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        output = super().forward(obs)
        return output._replace(q_logits=output.q_logits.detach())


class NoPolicy(MLP):
    def forward(self, obs: torch.Tensor) -> NetworkOutput:
        output = super().forward(obs)
        return output._replace(policy_logits=torch.zeros_like(output.policy_logits))


class Pair(MLP):
    def forward(self, obs: torch.Tensor) -> tuple:
        return tuple(super().forward(obs))


@pytest.mark.parametrize(("kind", "sentence"), [
    (MLP, None),
    (Fewer, r"q_logits of shape \(2, 5, 3, 1\) for 5 observations, but they must be of shape \(2, 5, 3, 7\)"),
    (Flat, r"q_logits of shape \(5, 3, 7\)"), (Pair, "returns q_logits that are NoneType"),
    (Dropping, r"returns something else for the same observations \(by dropout"),
    (Scaling, "Scaling changes its inputs in place"), (Centring, "something else for an observation that is alone"),
    (Double, r"returns q_logits \(2, 5, 3, 7\) of torch.float64, but must return torch.float32"),
    (Detached, "Detached's q_logits have no gradient"), (NoPolicy, "NoPolicy's policy_logits have no gradient"),
])  # fmt: skip
def test_a_network_answers_what_it_must(kind: type[MLP], sentence: str | None) -> None:
    torch.manual_seed(0)
    heads, critic = HeadsConfig(8, 8, False, False, 0.0, True), HLGauss(-1.0, 1.0, 7, 0.75, "none", 2, 0, False)
    network = kind((8,), False, heads, spec=VECTOR, outputs=Outputs(torch.zeros(7), 2, True))
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=sentence) if sentence else contextlib.nullcontext():
        check_network(network, waves(5, 4), 3, critic, needs_mu=True, policy=True)
    assert torch.equal(torch.get_rng_state(), before)
    if kind in (Dropping, NoPolicy):  # nothing reads the logged probability; no policy is learned
        check_network(network, waves(5, 4), 3, critic, needs_mu=False, policy=False)


def test_a_network_is_asked_for_bytes_as_it_will_get_them() -> None:
    layer, obs = torch.nn.Linear(4, 3), torch.ones(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        check_bfloat16(layer, obs, "Mine")
    with pytest.raises(ValueError, match=r"Mine does not take bytes as bfloat16, as run.autocast=bfloat16 gives them"):
        check_bfloat16(layer, obs, "Mine")


@pytest.mark.parametrize(("dtype", "high"), [(torch.uint8, 7), (torch.float32, 255)])
def test_networks_are_shown_what_envs_may_give(dtype: torch.dtype, high: int) -> None:
    spec = EnvSpec("Mine", 2, 3, (40,), dtype, byte_high=high)
    obs = shown_observations(spec, torch.device("cpu"))
    assert obs.dtype == torch.float32
    assert obs.shape[1:] == (40,)
    low, top = (0, high) if dtype == torch.uint8 else (-1, 1)
    assert low <= obs.min() < low + 0.1 * (top - low)
    assert top >= obs.max() > top - 0.1 * (top - low)


class Warming(Retrace):
    """A lambda that grows with every call."""

    calls = 0

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        Warming.calls += 1
        return Retrace(1 - 0.5**Warming.calls)(inputs)


class ByPosition:
    """A weight for each row of a window of five."""

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, torch.linspace(1, 0, 5).expand_as(inputs.reward), inputs.v)


def test_a_trace_keeps_nothing_and_is_asked_for_the_agents_window() -> None:
    with pytest.raises(ValueError, match="Warming returns something else for the same windows"):
        check_trace(Warming(0.9), 3)
    check_trace(ByPosition(), 5)
    for window in (1, 2, 7):
        check_trace(Retrace(0.9), window)


def test_a_critic_with_parameters_is_refused() -> None:
    critic = HLGauss(-1.0, 1.0, 7, 0.75, "none", 1, 0, False)
    critic.scale = torch.nn.Parameter(torch.zeros(()))
    with pytest.raises(ValueError, match="HLGauss has parameters, but only those of the network"):
        check_parts(small_network(), critic, Greedy(False), Retrace(0.9), 3)
