"""Operators averaged over every window of a random MDP, against exact matrices, and where they lead."""

import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from command import call
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

from offpol import tabular, tabular_figure
from offpol.cli import tabular_command
from offpol.config import build_all
from offpol.trace.c_trace import CTrace
from offpol.trace.gae import GAE
from offpol.trace.importance_sampling import ImportanceSampling
from offpol.trace.n_step import NStep
from offpol.trace.one_step import OneStep
from offpol.trace.peng import Peng
from offpol.trace.puffer import Puffer
from offpol.trace.q_lambda import QLambda
from offpol.trace.rbis import RBIS
from offpol.trace.retrace import Retrace
from offpol.trace.tree_backup import TreeBackup
from offpol.trace.vtrace import VTrace
from offpol.trace.watkins import Watkins
from offpol.types import Trace, TraceInputs, TraceTargets

GAMMA = 0.9
STATES, ACTIONS = 4, 3
WINDOW = 4


def problem(seed: int) -> tuple[tabular.MDP, Tensor, Tensor, tabular.Windows]:
    """An MDP with a terminal state, a policy, an epsilon-greedy behavior of another Q, and all its windows."""
    mdp = tabular.random_mdp(seed, STATES, ACTIONS, 2, GAMMA, terminal=1)
    g = torch.Generator().manual_seed(100 + seed)
    pi = torch.softmax(2 * torch.randn(STATES, ACTIONS, generator=g).double(), -1)
    greedy = torch.nn.functional.one_hot(torch.randint(ACTIONS, (STATES,), generator=g), ACTIONS).double()
    mu = 0.7 * greedy + 0.3 / ACTIONS
    return mdp, pi, mu, tabular.enumerate_windows(mdp, mu, WINDOW)


def random_q(seed: int) -> Tensor:
    return 3 * torch.randn(STATES, ACTIONS, generator=torch.Generator().manual_seed(seed)).double()


def onward(mdp: tabular.MDP, weights: Tensor) -> Tensor:
    """gamma P^w over pairs: [(s, a), (s', a')] = discounted P(s'|s, a) w(s', a')."""
    kernel = torch.zeros(STATES, ACTIONS, STATES, dtype=torch.float64)
    for s in range(STATES):
        for a in range(ACTIONS):
            for b in range(2):
                next_state = int(mdp.successor[s, a, b])
                kernel[s, a, next_state] += mdp.probability[s, a, b] * mdp.discount[next_state]
    pairs = STATES * ACTIONS
    return (kernel.unsqueeze(-1) * weights).reshape(pairs, pairs)


def q_operator(mdp: tabular.MDP, q: Tensor, pi: Tensor, mu_c: Tensor) -> Tensor:
    """Q + sum_{j<n} (gamma P^{c mu})^j (T^pi Q - Q), for coefficients that depend on (s, a)."""
    td = mdp.reward.flatten() + onward(mdp, pi) @ q.flatten() - q.flatten()
    total, term = q.flatten().clone(), td
    for _ in range(WINDOW):
        total, term = total + term, onward(mdp, mu_c) @ term
    return total.view_as(q)


COEFFICIENTS: list[tuple[Trace, Callable[[Tensor, Tensor], Tensor]]] = [
    (OneStep(), lambda pi, mu: 0 * mu),
    (ImportanceSampling(0.9), lambda pi, mu: 0.9 * pi / mu),
    (TreeBackup(0.9), lambda pi, mu: 0.9 * pi),
    (QLambda(0.9), lambda pi, mu: torch.full_like(mu, 0.9)),
    (Retrace(0.9), lambda pi, mu: 0.9 * (pi / mu).clamp(max=1)),
]


@pytest.mark.parametrize(("trace", "coefficient"), COEFFICIENTS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_the_average_is_the_matrix_operator(trace: Trace, coefficient: Callable, seed: int) -> None:
    mdp, pi, mu, windows = problem(seed)
    q = random_q(seed)
    got, length = tabular.apply(trace, mdp, windows, q, pi, mu)
    mu_c = mu * coefficient(pi, mu)
    torch.testing.assert_close(got, q_operator(mdp, q, pi, mu_c), rtol=0, atol=1e-9)
    undiscounted = tabular.MDP(mdp.successor, mdp.probability, mdp.reward, (mdp.discount > 0).double())
    step, mean, reach = onward(undiscounted, mu_c), 0.0, torch.eye(STATES * ACTIONS).double()
    for _ in range(WINDOW):
        mean, reach = mean + reach.sum(1).mean().item(), reach @ step
    assert length == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_average_of_watkins_is_its_matrix_operator(seed: int) -> None:
    """Hard: towards max Q, as far as the data is greedy. Soft: towards pi, by the share of pi that is hardly better."""
    mdp, pi, mu, windows = problem(seed)
    q = random_q(seed)
    greedy = torch.nn.functional.one_hot(q.argmax(1), ACTIONS).double()
    got, _ = tabular.apply(Watkins(0.9, None), mdp, windows, q, pi, mu)
    torch.testing.assert_close(got, q_operator(mdp, q, greedy, mu * 0.9 * greedy), rtol=0, atol=1e-9)
    coefficient = torch.zeros_like(q)
    for s in range(STATES):
        for a in range(ACTIONS):
            hardly_better = [b for b in range(ACTIONS) if q[s, a] >= q[s, b] - 0.5 * q[s, b].abs()]
            coefficient[s, a] = 0.9 * pi[s, hardly_better].sum()
    assert 0 < (coefficient == 0.9).sum() < STATES * ACTIONS
    got, _ = tabular.apply(Watkins(0.9, 0.5), mdp, windows, q, pi, mu)
    torch.testing.assert_close(got, q_operator(mdp, q, pi, mu * coefficient), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("seed", "contraction"), [(0, 0.56), (1, 0.33), (2, 0.56)])
def test_the_average_of_c_trace_is_a_matrix_operator_towards_the_mixture(seed: int, contraction: float) -> None:
    """Its last backup, where no action follows, is towards pi."""
    mdp, pi, mu, windows = problem(seed)
    q, trace = random_q(seed), CTrace(0.9, contraction)
    inputs = tabular.trace_inputs(mdp, windows, q, pi, mu)
    rho = (pi / mu).clamp(max=1)
    share = windows.probability / windows.probability.sum()  # seldom windows count little, as they do in a replay
    alpha = trace._alpha(inputs, 1 - rho[windows.state[:, :-1], windows.action], share)
    assert 0.05 < alpha < 0.95
    mixture, onwards = alpha * pi + (1 - alpha) * mu, onward(mdp, mu * 0.9 * (alpha * rho + 1 - alpha))
    want, reach = q.flatten().clone(), torch.eye(STATES * ACTIONS).double()
    for step in range(WINDOW):
        towards = onward(mdp, mixture if step < WINDOW - 1 else pi)
        want, reach = want + reach @ (mdp.reward.flatten() + towards @ q.flatten() - q.flatten()), reach @ onwards
    got, _ = tabular.apply(trace, mdp, windows, q, pi, mu)
    torch.testing.assert_close(got, want.view_as(q), rtol=0, atol=1e-9)


def test_a_window_that_counts_three_times_is_three_windows() -> None:
    mdp, pi, mu, windows = problem(0)
    inputs, trace = tabular.trace_inputs(mdp, windows, random_q(0), pi, mu), CTrace(0.9, 0.56)
    times = torch.arange(len(windows.state)) % 3 + 1
    often = TraceInputs(**{f.name: getattr(inputs, f.name).repeat_interleave(times, 0) for f in fields(inputs)})
    want = trace(often).returns[times.cumsum(0) - 1]
    torch.testing.assert_close(trace(inputs, times.double()).returns, want, rtol=0, atol=1e-9)
    assert not torch.allclose(trace(inputs).returns, want)


@pytest.mark.parametrize("seed", range(3))
def test_the_average_of_rbis_is_the_sum_over_paths(seed: int) -> None:
    """Its coefficients depend on the whole path, so no matrix has them: paths are followed one by one."""
    mdp, pi, mu, windows = problem(seed)
    q = random_q(seed)
    td = (mdp.reward.flatten() + onward(mdp, pi) @ q.flatten()).view_as(q) - q

    def sum_over_paths(s: int, a: int, beta: float, step: int) -> float:
        total = beta * td[s, a].item()
        for probability, reached in zip(mdp.probability[s, a].tolist(), mdp.successor[s, a].tolist(), strict=True):
            if step == WINDOW - 1 or mdp.discount[reached] == 0:
                continue
            for b in range(ACTIONS):
                next_beta = min(0.9 ** (step + 1), (pi[reached, b] / mu[reached, b]).item() * beta)
                path = probability * GAMMA * mu[reached, b].item()
                total += path * sum_over_paths(reached, b, next_beta, step + 1)
        return total

    got, _ = tabular.apply(RBIS(0.9), mdp, windows, q, pi, mu)
    want = [[q[s, a].item() + sum_over_paths(s, a, 1.0, 0) for a in range(ACTIONS)] for s in range(STATES)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-9)
    shorter, _ = tabular.apply(Retrace(0.9), mdp, windows, q, pi, mu)
    assert (got - shorter).abs().max() > 1e-3  # traces recover on some paths


@pytest.mark.parametrize("trace", [Peng(0.6), NStep(), GAE(0.6, True)], ids=lambda x: type(x).__name__)
def test_uncorrected_returns_average_to_their_matrix(trace: Trace) -> None:
    lambda_ = getattr(trace, "lambda_", 1.0)
    mdp, pi, mu, windows = problem(0)
    q = random_q(0)
    want = q.flatten()
    for steps_left in range(WINDOW):  # G of the last row bootstraps with pi alone
        share = lambda_ if steps_left else 0.0
        want = mdp.reward.flatten() + (1 - share) * (onward(mdp, pi) @ q.flatten()) + share * (onward(mdp, mu) @ want)
    got, _ = tabular.apply(trace, mdp, windows, q, pi, mu)
    torch.testing.assert_close(got, want.view_as(q), rtol=0, atol=1e-9)
    truth = tabular.q_of(mdp, pi)
    end, rate = tabular.fixed_point(trace, mdp, windows, pi, mu)
    assert rate < 1
    assert (end - truth).abs().max() > 0.01
    on_policy = tabular.enumerate_windows(mdp, pi, WINDOW)
    end, _ = tabular.fixed_point(trace, mdp, on_policy, pi, pi)
    torch.testing.assert_close(end, truth, rtol=0, atol=1e-9)


@pytest.mark.parametrize("trace", [Retrace(1.0), TreeBackup(1.0), RBIS(1.0), Retrace(0.5)], ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_safe_operators_contract_by_gamma_and_reach_q_pi(trace: Trace, seed: int) -> None:
    mdp, pi, mu, windows = problem(seed)
    _, derivative = tabular.jacobian(trace, mdp, windows, random_q(seed), pi, mu)
    assert derivative.abs().sum(1).max() <= GAMMA + 1e-9
    truth, q = tabular.q_of(mdp, pi), random_q(seed)
    before = (q - truth).abs().max()
    for _ in range(10):
        q, _ = tabular.apply(trace, mdp, windows, q, pi, mu)
    assert (q - truth).abs().max() <= before * GAMMA**10
    torch.testing.assert_close(tabular.fixed_point(trace, mdp, windows, pi, mu)[0], truth, rtol=0, atol=1e-9)


def test_q_pi_is_the_value_of_pi() -> None:
    """The truth itself, against Bellman's equation."""
    mdp, pi, _, _ = problem(1)
    q = tabular.q_of(mdp, pi).flatten()
    torch.testing.assert_close(q, mdp.reward.flatten() + onward(mdp, pi) @ q, rtol=0, atol=1e-9)
    best = tabular.q_star(mdp)
    greedy = torch.nn.functional.one_hot(best.argmax(-1), ACTIONS).double()
    torch.testing.assert_close(best, tabular.q_of(mdp, greedy), rtol=0, atol=1e-9)
    assert (best >= q.view_as(best) - 1e-12).all()


def test_q_lambda_diverges_far_from_its_policy_where_retrace_does_not() -> None:
    mdp = tabular.random_mdp(46, 3, 2, 2, 0.99)
    action = torch.randint(2, (3,), generator=torch.Generator().manual_seed(46))
    pi = torch.nn.functional.one_hot(action, 2).double()
    mu = 0.98 * (1 - pi) + 0.02 * pi
    windows = tabular.enumerate_windows(mdp, mu, 6)
    errors = {}
    for trace in (QLambda(1.0), Retrace(1.0)):
        q = torch.zeros(3, 2).double()
        for _ in range(60):
            q, _ = tabular.apply(trace, mdp, windows, q, pi, mu)
        errors[type(trace)] = (q - tabular.q_of(mdp, pi)).abs().max().item()
    start = tabular.q_of(mdp, pi).abs().max().item()
    assert errors[QLambda] > 1e6 * start
    assert errors[Retrace] < 0.99**60 * start * 1.001
    distance = (pi - mu).abs().sum(-1).max().item()
    assert tabular.fixed_point(QLambda(0.9 * 0.01 / (0.99 * distance)), mdp, windows, pi, mu)[1] < 1  # theory's bound


@pytest.mark.parametrize("rho_clip", [0.5, 1.0, math.inf])
def test_v_trace_ends_at_the_value_of_its_own_policy(rho_clip: float) -> None:
    """vs - v averages to 0 exactly at the value of the policy proportional to min(rho_clip mu, pi)."""
    mdp, pi, mu, windows = problem(2)
    between = pi if rho_clip == math.inf else torch.minimum(rho_clip * mu, pi)
    between = between / between.sum(-1, keepdim=True)
    v = (between * tabular.q_of(mdp, between)).sum(-1)

    def mean_correction(v: Tensor) -> Tensor:
        inputs = tabular.trace_inputs(mdp, windows, v.unsqueeze(-1).expand(-1, ACTIONS), pi, mu)
        advantage = Puffer(0.9, rho_clip, 1.0)(inputs).advantage[:, 0]
        first = mu[windows.state[:, 0], windows.action[:, 0]] * windows.probability
        return torch.zeros(STATES, dtype=torch.float64).index_add_(0, windows.state[:, 0], first * advantage)

    assert mean_correction(v).abs().max() < 1e-9
    if rho_clip < math.inf:
        assert mean_correction((pi * tabular.q_of(mdp, pi)).sum(-1)).abs().max() > 0.01


def test_v_traces_estimate_of_q_is_biased_off_policy_only() -> None:
    mdp, pi, mu, windows = problem(0)
    truth = tabular.q_of(mdp, pi)
    end, rate = tabular.fixed_point(VTrace(1.0, 1.0, 1.0), mdp, windows, pi, mu)
    assert rate < 1
    assert (end - truth).abs().max() > 0.01
    end, _ = tabular.fixed_point(VTrace(1.0, 1e9, 1.0), mdp, windows, pi, mu)
    torch.testing.assert_close(end, truth, rtol=0, atol=1e-8)


class Shifted:
    """Retrace with each coefficient taken from the step before: a known mistake."""

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        fields = vars(inputs) | {name: getattr(inputs, name).roll(1, 1) for name in ("log_pi", "log_mu")}
        return Retrace(1.0)(TraceInputs(**fields))


def test_a_shifted_trace_is_told_by_its_average() -> None:
    mdp, pi, mu, windows = problem(0)
    q = random_q(0)
    got, _ = tabular.apply(Shifted(), mdp, windows, q, pi, mu)
    assert (got - q_operator(mdp, q, pi, mu * (pi / mu).clamp(max=1))).abs().max() > 0.05


@pytest.mark.parametrize("trace", [OneStep(), Retrace(0.9), ImportanceSampling(1.0)], ids=lambda x: type(x).__name__)
def test_the_noise_of_a_return_is_its_standard_deviation(trace: Trace) -> None:
    """Against a plain sum over windows, by pair; for one step also over successors alone."""
    mdp, pi, mu, windows = problem(1)
    q = tabular.q_of(mdp, pi)
    returns = trace(tabular.trace_inputs(mdp, windows, q, pi, mu)).returns[:, 0].tolist()
    by_pair: dict[tuple, list] = {}
    for state, action, p, g in zip(windows.state.tolist(), windows.action.tolist(), windows.probability.tolist(),
                                   returns, strict=True):  # fmt: skip
        by_pair.setdefault((state[0], action[0]), []).append((p, g))
    variances = [sum(p * g * g for p, g in some) - sum(p * g for p, g in some) ** 2 for some in by_pair.values()]
    assert len(variances) == STATES * ACTIONS
    got = tabular.noise(trace, mdp, windows, q, pi, mu)
    assert got == pytest.approx(math.sqrt(sum(variances) / len(variances)), abs=1e-9)
    if isinstance(trace, OneStep):
        ahead = mdp.discount[mdp.successor] * (pi * q).sum(-1)[mdp.successor]
        mean = (mdp.probability * ahead).sum(-1, keepdim=True)
        assert got == pytest.approx((mdp.probability * (ahead - mean) ** 2).sum(-1).mean().sqrt().item(), abs=1e-9)


def test_only_operators_with_one_matrix_are_surveyed() -> None:
    """Those of conf/trace are told by what they do."""
    assert [name for name in build_all("trace") if name not in tabular.operators()] == ["watkins"]
    for trace in (Watkins(0.0, None), Watkins(0.9, 0.01), Watkins(0.9, 0.5)):
        assert not tabular.is_affine(trace)


@pytest.mark.parametrize("option", ["--window", "--iterations"])
def test_the_command_refuses_nothing_at_all(option, monkeypatch, capfd) -> None:
    outcome = call(tabular_command.main, (option, "0"), monkeypatch, capfd)
    assert (outcome.code, outcome.err) == (2, f"offpol-tabular: {option} must be at least 1, but is 0.\n")


def test_the_command_draws_its_figure(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(tabular, "EPSILONS", [0.0, 0.5])
    monkeypatch.setattr(tabular, "SHOWN", 1)
    figure = tmp_path / "a" / "figure.png"
    words = ("--window", "2", "--iterations", "3", "--output", str(figure))
    outcome = call(tabular_command.main, words, monkeypatch, capfd)
    assert figure.stat().st_size > 10_000
    assert all(name in outcome.out for name in ("retrace", "n_step", "c_trace"))


def test_operators_that_the_figure_does_not_know_have_lines_of_their_own(tmp_path, monkeypatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    finding = tabular.Finding([1.0], bias=0.0, worth=1.0, noise=1.0, length=1.0)
    names = ["a", *tabular_figure.STYLES, "halfway", "mine"]
    tabular_figure.draw({name: [finding] for name in names}, [0.0], 0, tmp_path / "figure.png")
    for panel in drawn[0].axes:
        assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in panel.lines}) == len(names)
