"""Known mistakes, made on purpose in a copy of the package: each must fail a test (-m slow)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent


class Mutation(NamedTuple):
    name: str
    file: str
    right: str
    wrong: str
    tests: str  # that must fail


TRACES, CRITICS, POLICIES = "tests/trace", "tests/critic", "tests/policy"
REPLAY = "tests/replay/test_ring.py tests/replay/test_prioritized.py tests/replay/test_replay_contract.py"
KERNELS = "memory/kernels_numba.py"
TREE, SAVED = "tests/replay/test_sum_tree.py", "tests/test_checkpoint.py"
AGENT = "tests/test_agent.py tests/test_every_part.py"
JOINED = "tests/test_n_step_transitions.py"
TOPOLOGY = "tests/topology/test_topology_contract.py"
MUTATIONS = [
    # ------------------------------------------------------------------------------------------- traces
    Mutation("c is shifted by one", "scan.py", "(inputs) * trace[:, 1:])", "(inputs) * trace[:, :-1])", TRACES),
    Mutation("c_0 is included", "scan.py", "inputs.q + correction", "inputs.q + trace * correction", TRACES),
    Mutation("min(lambda, rho) for lambda min(1, rho)", "trace/retrace.py",
             "self.lambda_ * ratio(inputs, 1.0)", "ratio(inputs, 1.0).clamp(max=self.lambda_)", TRACES),
    Mutation("rho on the td error of Retrace", "scan.py",
             "reverse_scan(td_error, continuation(inputs) * trace[:, 1:])",
             "reverse_scan(trace * td_error, continuation(inputs) * trace[:, 1:])", TRACES),
    Mutation("(1 - lambda) v + lambda G for Retrace", "trace/retrace.py",
             "q_targets(inputs, self.lambda_ * ratio(inputs, 1.0), inputs.v)",
             "q_targets(inputs, ratio(inputs, 1.0) * self.lambda_, self.lambda_ * inputs.v)", TRACES),
    Mutation("Peng's returns for Retrace's", "trace/retrace.py",
             "return q_targets(inputs, self.lambda_ * ratio(inputs, 1.0), inputs.v)",
             "return __import__('offpol.trace.peng').trace.peng.Peng(self.lambda_)(inputs)", TRACES),
    Mutation("truncation is taken for termination by a trace", "scan.py",
             "torch.addcmul(inputs.reward - inputs.q, inputs.discount, v[:, 1:])",
             "torch.addcmul(inputs.reward - inputs.q, inputs.discount * inputs.valid_next, v[:, 1:])", TRACES),
    Mutation("a trace goes on into the next episode", "scan.py",
             "(inputs.discount * inputs.valid_next)[:, :-1]", "inputs.discount[:, :-1]", TRACES),
    Mutation("gamma^n for gamma^n_eff", "trace/n_step.py", "        returns = lambda_returns(inputs, 1.0)\n",
             "        n = inputs.reward.shape[1]\n"
             "        left = torch.arange(n - 1, -1, -1, dtype=inputs.reward.dtype)\n"
             "        late = torch.where(inputs.valid_next, 1.0, inputs.discount.max() ** left)\n"
             "        changed = {**vars(inputs), 'discount': inputs.discount * late}\n"
             "        returns = lambda_returns(TraceInputs(**changed), 1.0)\n", TRACES),
    Mutation("something is added to mu", "scan.py", "(inputs.log_pi - inputs.log_mu)",
             "(inputs.log_pi - (inputs.log_mu.exp() + 1e-7).log())", TRACES),
    Mutation("the ratio of another action", "types.py", "log_pi=pi[:, :-1].gather(-1, taken).squeeze(-1).log()",
             "log_pi=pi[:, :-1].amax(-1).log()", TRACES),
    Mutation("V-trace's c is shifted", "scan.py", "continuation(inputs) * trace[:, :-1])",
             "continuation(inputs) * trace[:, 1:])", TRACES),
    Mutation("V-trace's lambda within the clip", "trace/vtrace.py", "self.lambda_ * ratio(inputs, self.c_clip)",
             "ratio(inputs, self.lambda_ * self.c_clip)", TRACES),
    Mutation("Puffer's rho on the reward alone", "scan.py", "reverse_scan(rho * td_error,",
             "reverse_scan(td_error + (rho - 1) * inputs.reward,", TRACES),
    Mutation("importance sampling is clipped", "trace/importance_sampling.py", "ratio(inputs, math.inf)",
             "ratio(inputs, 1.0)", TRACES),
    Mutation("RBIS is Retrace", "trace/rbis.py", ".clamp(max=self.lambda_**j)", ".clamp(max=beta[:, : n - j] * 1.0)",
             TRACES),
    Mutation("soft Watkins without pi", "trace/watkins.py", "torch.where(near, inputs.pi[:, :-1], 0.0).sum(-1)",
             "near.to(inputs.q.dtype).mean(-1)", TRACES),
    # ------------------------------------------------------------------------------------------ critics
    Mutation("mixture weights shifted by one", "mixture.py", "traced.trace[:, 1:]", "traced.trace[:, :-1]", CRITICS),
    Mutation("negative mixture weights are clipped", "mixture.py", "reached.unsqueeze(-1) * base[:, m - 1 :]",
             "(reached.unsqueeze(-1) * base[:, m - 1 :]).clamp(min=0)", CRITICS),
    Mutation("projection shares swapped", "mixture.py", "upper_share = position - lower",
             "upper_share = 1.0 - (position - lower)", CRITICS),
    Mutation("HL-Gauss is not clamped first", "critic/hl_gauss.py", "returns.detach().clamp(self.v_min, self.v_max)",
             "returns.detach()", CRITICS),
    Mutation("HL-Gauss keeps the mass outside", "critic/hl_gauss.py", " / (cdf[..., -1:] - cdf[..., :1])", " / 2",
             CRITICS),
    Mutation("a scalar critic's target gets a gradient", "critic/scalar.py", "returns.detach()", "returns", CRITICS),
    Mutation("a histogram's target gets a gradient", "critic/hl_gauss.py", "returns.detach()", "returns", CRITICS),
    Mutation("masses get a gradient", "critic/categorical.py", "targets.detach()", "targets", CRITICS),
    Mutation("quantile levels turned round", "critic/quantile.py", "(gap.detach() < 0)", "(gap.detach() > 0)", CRITICS),
    Mutation("the whole ensemble's minimum", "critic_base.py", "values[members].amin(0)", "values.amin(0)", CRITICS),
    Mutation("the inverse of h in its usual form", "value_transform.py",
             "    return torch.sign(y) * u * (u + 2.0)",
             "    e = _EPSILON\n    r = ((1 + 4 * e * (y.abs() + 1 + e)).sqrt() - 1) / (2 * e)\n"
             "    return torch.sign(y) * (r * r - 1)", CRITICS),
    # ----------------------------------------------------------------------------------------- policies
    Mutation("exp without its cap", "policy/advantage_weighted.py", "exponent.exp()",
             "(gap / divisor).exp()", POLICIES),
    Mutation("weights get a gradient", "policy/advantage_weighted.py", "        with torch.no_grad():\n",
             "        if True:\n", POLICIES),
    Mutation("the gradient's ratio is not detached", "policy/policy_gradient.py",
             "log_ratio(log_taken.detach(), inputs.log_mu)", "log_ratio(log_taken, inputs.log_mu)", POLICIES),
    Mutation("ACER without its correction", "policy/policy_gradient.py", " + (rho - weight) * gap", "", POLICIES),
    Mutation("beta-LOO without its sum over actions", "policy/policy_gradient.py",
             " + (gaps * log_pi.exp()).sum(-1)", "", POLICIES),
    Mutation("Munchausen's entropy is not discounted", "policy/munchausen.py", "inputs.discount * soft", "soft",
             POLICIES),
    Mutation("CMPO is not clipped", "policy/cmpo.py", "scaled.clamp(-self.clip, self.clip)", "scaled", POLICIES),
    # -------------------------------------------------------------------------------------------- agent
    Mutation("truncation is taken for termination by the agent", "agent.py", "torch.where(batch.terminated, 0.0,",
             "torch.where(batch.terminated | batch.truncated, 0.0,", AGENT),
    Mutation("truncation undoes termination", "agent.py", "torch.where(batch.terminated, 0.0,",
             "torch.where(batch.terminated & ~batch.truncated, 0.0,", "tests/replay/test_replay_contract.py"),
    Mutation("one batch for all updates that are due", "learning.py", "batch = replay.sample(agent.batch_size)",
             'batch = batch if "batch" in locals() else replay.sample(agent.batch_size)', "tests/test_learning.py"),
    Mutation("epsilon counts frames", "topology/sync.py", "actor.act(run.agent_steps, agent.updates)",
             "actor.act(run.agent_steps * run.frames_per_agent_step, agent.updates)", TOPOLOGY),
    Mutation("epsilon counts frames beside learning", "actor_side.py",
             "self.agent_steps += int(rows.valid.sum())", "self.agent_steps += 4 * int(rows.valid.sum())", TOPOLOGY),
    Mutation("targets get a gradient", "agent.py", "    @torch.no_grad()\n    def _targets", "    def _targets", AGENT),
    Mutation("double Q by the target network", "agent.py", "self._complete(online, self.network, obs",
             "self._complete(output, self.target_network, obs", AGENT),
    Mutation("an n-step transition bootstraps a row late", "n_step_transitions.py", "gather(1, last), last + 1",
             "gather(1, last), (last + 2).clamp(max=reward.shape[1])", JOINED),
    Mutation("an n-step transition goes past its episode", "n_step_transitions.py", "(discount[:, :-1] * follows)",
             "(discount[:, :-1])", JOINED),
    Mutation("measuring draws from the run's random numbers", "agent.py", "with torch.random.fork_rng(devices=[]):",
             "if True:", JOINED),
    Mutation("the replay weight counts twice", "agent.py", "(batch.replay_weight * share",
             "(batch.replay_weight.square() * share", AGENT),
    Mutation("signed priorities", "agent.py", "(reachable - self.critic.value(taken).mean(0)).abs() * valid",
             "(reachable - self.critic.value(taken).mean(0)) * valid", AGENT),
    Mutation("invalid rows are trained on", "agent.py", "share = valid / valid.sum()",
             "share = torch.ones_like(returns) / valid.sum()", AGENT),
    Mutation("the mean of the ensemble's losses", "agent.py", "trained(critic_targets)).sum(0)",
             "trained(critic_targets)).mean(0)", AGENT),
    Mutation("streams that were lost go on", "learning.py", "replay.cut(stream)", "pass", "tests/test_learning.py"),
    # ------------------------------------------------------------------------------------------- replay
    Mutation("a window whose stack is overwritten is drawn", KERNELS,
             "result[i] = generation > 0 and valid[slots[i]] and age >= window and age + history[slots[i]] < rows",
             "result[i] = generation > 0 and valid[slots[i]] and age >= window", REPLAY),
    Mutation("a window is drawn one row too early", KERNELS,
             "age >= window and age + history[slots[i]] < rows",
             "age >= window - 1 and age + history[slots[i]] < rows", REPLAY),
    Mutation("a stack reaches into the episode before", KERNELS, "if back <= history[slot] else -1",
             "if back <= history[slot] + 1 else -1", REPLAY),
    Mutation("a late priority lands on the new row", KERNELS, " - (generation[i] - 1) * rows", " % rows",
             REPLAY),
    Mutation("priorities without their exponent", KERNELS, "base**alpha if base > 0", "base if base > 0",
             REPLAY),
    Mutation("replay weights turned round", KERNELS, "(share / lowest) ** -beta", "(share / lowest) ** beta",
             REPLAY),
    Mutation("the uniform mixture is left out of the weights", KERNELS,
             "share = (1 - uniform_mix) * (mass[i] / total) + uniform", "share = mass[i] / total", REPLAY),
    Mutation("new rows count as 1", "replay/prioritized.py",
             'np.nan if self.new_priority == "neighborhood" else self._largest_mass',
             'np.nan if self.new_priority == "neighborhood" else 1.0', REPLAY),
    Mutation("draws are not stratified", "memory/tree_kernels_numba.py",
             "((share[i] + i) / number if stratified else share[i])",
             "share[i]", REPLAY),
    Mutation("a sum misses its last child", "memory/tree_kernels_numba.py",
             "            for child in range(first + 1, first + 8):\n                total += nodes[child]",
             "            for child in range(first + 1, first + 7):\n                total += nodes[child]", TREE),
    Mutation("a segment begins a row too late", "record/segments.py", "np.maximum(ring.oldest, counts.numpy())",
             "np.maximum(ring.oldest, counts.numpy() + 1)", "tests/replay/test_ring.py"),
    Mutation("a cut row is loaded as it was before", "record/segments.py",
             'ring.fields["valid"][ring.slots(start - 1, start)] = segment["valid_before"].numpy()', "pass",
             "tests/replay/test_ring.py"),
    Mutation("a segment goes that is still needed", "record/checkpoint.py",
             '(torch.tensor(old["stop"]) > oldest).any()', '(torch.tensor(old["stop"]) > oldest + 1).any()', SAVED),
    Mutation("checksums are not compared", "record/checkpoint.py", "    verify(path, expected)\n", "", SAVED),
]  # fmt: skip
every_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)


@every_mutation
def test_a_mistake_can_still_be_made(mutation: Mutation) -> None:
    """Where the code has changed, so must the mistake: or the slow test below would find out weeks later."""
    count = (ROOT / "offpol" / mutation.file).read_text().count(mutation.right)
    assert count == 1, f"offpol/{mutation.file} has no single {mutation.right!r}: mend the mutation"


@pytest.mark.slow
@pytest.mark.timeout(600)
@every_mutation
def test_a_mistake_fails_fails_a_test(mutation: Mutation, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "offpol", tmp_path / "offpol", ignore=shutil.ignore_patterns("__pycache__"))
    for shared in ("conf", "tests", "pyproject.toml"):
        (tmp_path / shared).symlink_to(ROOT / shared)
    file = tmp_path / "offpol" / mutation.file
    file.write_text(file.read_text().replace(mutation.right, mutation.wrong))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutation.tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, f"pytest ended with {done.returncode}, 1 is a failed test:\n{done.stdout[-2000:]}"
