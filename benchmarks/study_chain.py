"""The study where the truth is known: every operator's target on the chain, exactly, as data gets older.

    python benchmarks/study_chain.py --out docs/study

A learner improves a policy on the chain of conf/env/chain.yaml, rewarded at its goal alone so that values travel one
state a sweep, by sweeps of soft value iteration. Its critic is what it
knows after the last sweep, its policy the softmax of that. Data were gathered some sweeps ago, by that time's policy:
epsilon-greedy on Q, epsilon-mixed policy, or a ladder of epsilons. Every window that such a behavior can produce is
enumerated with its probability, so each operator's mean target, the standard deviation of a single target and the trace
length are exact, in float64, and so is Q^pi. Prints a table, writes chain.csv and chain.png.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from offpol import tabular
from offpol.config import build, conf_dir
from offpol.trace.n_step import NStep
from offpol.trace.watkins import Watkins
from offpol.types import Trace

GAMMA, TEMPERATURE, EPSILON = 0.99, 0.05, 0.1
SWEEPS = 12  # of the learner so far
AGES = (0, 2, 4, 6, 8, 10, 12)  # sweeps since the data; 12 is uniformly random play
LADDER_ENVS, LADDER_EPSILON, LADDER_EXPONENT = 8, 0.4, 7.0
BEHAVIORS = {"epsilon-greedy on Q": "greedy", "epsilon-mixed policy": "policy", "ladder": "ladder"}
OPERATORS = (
    "one_step", "n_step 3", "n_step 5", "n_step 6", "retrace", "tree_backup", "q_lambda", "watkins soft", "peng",
    "vtrace", "puffer", "rbis",
)  # fmt: skip
WINDOW = 6  # all operators but the shorter n_step; windows grow fourfold with each step


class Outcome(NamedTuple):
    """What one operator makes of data of one age; root mean squares over all (s, a)."""

    bias: float  # of the mean target from Q^pi
    noise: float  # standard deviation of a single target
    length: float  # rewards used


def chain() -> tuple[tabular.MDP, Tensor]:
    """Return the chain, rewarded at its goal alone, as tables, and which states are not terminal [S]."""
    node = yaml.safe_load((conf_dir() / "env" / "chain.yaml").read_text())
    env = build(node | {"interior_reward": 0.0}, num_envs=1, seed=0)
    transition, reward, terminal = (torch.from_numpy(x) for x in env.transition_matrices())
    probability, successor = transition.topk(2, -1)
    discount = torch.where(terminal, 0.0, GAMMA).double()
    return tabular.MDP(successor, probability, reward, discount), ~terminal


def learner(mdp: tabular.MDP) -> list[Tensor]:
    """Return Q [S, A] after 0, 1, ... SWEEPS sweeps of soft value iteration."""
    q = [torch.zeros_like(mdp.reward)]
    for _ in range(SWEEPS):
        v = (soft(q[-1]) * q[-1]).sum(-1)
        q.append(mdp.reward + mdp.transition @ v)
    return q


def soft(q: Tensor) -> Tensor:
    """Return the policy [S, A] of values."""
    return torch.softmax(q / TEMPERATURE, -1)


def behaviors(kind: str, q: Tensor) -> list[Tensor]:
    """Return mu [S, A] of every env that gathered data by values q."""
    epsilons = [EPSILON]
    if kind == "ladder":
        epsilons = [LADDER_EPSILON ** (1 + LADDER_EXPONENT * i / (LADDER_ENVS - 1)) for i in range(LADDER_ENVS)]
    best = (q == q.amax(-1, keepdim=True)).double()
    base = soft(q) if kind == "policy" else best / best.sum(-1, keepdim=True)
    return [(1 - epsilon) * base + epsilon / q.shape[-1] for epsilon in epsilons]


def operator(name: str) -> tuple[Trace, int]:
    """Return an operator as conf/trace has it, and its window."""
    kind, _, rest = name.partition(" ")
    if kind == "n_step":
        return NStep(), int(rest)
    if kind == "watkins":
        return Watkins(0.95, 0.01), WINDOW
    return build(yaml.safe_load((conf_dir() / "trace" / f"{kind}.yaml").read_text())), WINDOW


def moments(
    trace: Trace, mdp: tabular.MDP, windows: tabular.Windows, q: Tensor, pi: Tensor, mu: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean target, mean square of it, and mean trace length of every (s, a), [S A]."""
    inputs = tabular.trace_inputs(mdp, windows, q, pi, mu)
    targets = trace(inputs)
    weights = (targets.trace[:, 1:] * inputs.valid_next[:, :-1]).cumprod(1).clamp(max=1.0)
    pair = windows.state[:, 0] * q.shape[1] + windows.action[:, 0]

    def mean(values: Tensor) -> Tensor:
        return torch.zeros(q.numel(), dtype=tabular.DTYPE).index_add_(0, pair, windows.probability * values)

    first = targets.returns[:, 0]
    return mean(first), mean(first.square()), mean(1.0 + weights.sum(1))


def survey(names: tuple[str, ...], ages: tuple[int, ...]) -> dict[tuple[str, int, str], Outcome]:
    """Put every operator through data of every age and behavior."""
    mdp, alive = chain()
    values = learner(mdp)
    q, pi = values[-1], soft(values[-1])
    truth, pairs = tabular.q_of(mdp, pi).flatten(), alive.repeat_interleave(q.shape[1])
    found = {}
    for behavior, kind in BEHAVIORS.items():
        for age in ages:
            mus = behaviors(kind, values[SWEEPS - age])
            for mu in mus:
                mu[~alive] = torch.eye(q.shape[1], dtype=tabular.DTYPE)[
                    0
                ]  # nothing happens there: one branch is enough
            windows = {
                n: [tabular.enumerate_windows(mdp, mu, n) for mu in mus] for n in {operator(x)[1] for x in names}
            }
            for name in names:
                trace, n = operator(name)
                sums = [moments(trace, mdp, w, q, pi, mu) for w, mu in zip(windows[n], mus, strict=True)]
                mean, square, length = (torch.stack(each).mean(0)[pairs] for each in zip(*sums, strict=True))
                noise = (square - mean.square()).clamp(min=0).mean().sqrt()
                bias = (mean - truth[pairs]).square().mean().sqrt()
                found[behavior, age, name] = Outcome(bias.item(), noise.item(), length.mean().item())
    return found


def critic_error() -> float:
    """Return how far the critic itself is from Q^pi."""
    mdp, alive = chain()
    q = learner(mdp)[-1]
    return (q - tabular.q_of(mdp, soft(q)))[alive].square().mean().sqrt().item()


def draw(found: dict[tuple[str, int, str], Outcome], path: Path) -> None:
    """Save the figure: bias, noise and trace length by age, one column per behavior."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9.2), layout="constrained")
    rows = ("bias", "noise", "length")
    titles = ("error of the mean target", "standard deviation of one target", "rewards used (trace length)")
    panels = figure.subplots(3, 3, sharex=True, sharey="row")
    for column, behavior in enumerate(BEHAVIORS):
        for row, measure in enumerate(rows):
            axes = panels[row, column]
            for i, name in enumerate(OPERATORS):
                style = {"color": f"C{i % 10}", "ls": ("-", "--")[i // 10], "lw": 2.6 if name == "retrace" else 1.4}
                axes.plot(
                    range(len(AGES)),
                    [getattr(found[behavior, age, name], measure) for age in AGES],
                    marker=".",
                    label=name,
                    **style,
                )
            if measure == "bias":
                axes.axhline(critic_error(), color="#8A8A8A", ls=":", lw=1.2, label="the critic itself")
                axes.set_title(behavior, fontsize=11)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel(titles[row])
            if row == 2:
                axes.set_xticks(range(len(AGES)), [str(age) for age in AGES])
                axes.set_xlabel("age of the data (sweeps)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=7, frameon=False, fontsize=9)
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    """Survey, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for chain.csv and chain.png")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    found = survey(OPERATORS, AGES)
    with (out / "chain.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("behavior", "age_sweeps", "operator", *Outcome._fields))
        writer.writerows((*key, *(f"{x:.10g}" for x in outcome)) for key, outcome in found.items())
    draw(found, out / "chain.png")
    print(f"critic {critic_error():.4f}; error of the mean target | standard deviation | trace length, by age")
    for behavior in BEHAVIORS:
        print(f"\n{behavior}\n{'':14}" + "".join(f"{age:>18}" for age in AGES))
        for name in OPERATORS:
            cells = (found[behavior, age, name] for age in AGES)
            print(f"{name:14}" + "".join(f"{c.bias:7.3f}|{c.noise:5.3f}|{c.length:4.2f}" for c in cells))
    print(f"\nWritten: {out / 'chain.csv'}, {out / 'chain.png'}")


if __name__ == "__main__":
    main()
