"""What each trace operator costs: processor microseconds of one thread for the returns of a batch.

    python benchmarks/trace.py                       # 32 windows of 5, 32 of 20, 256 of 5
    python benchmarks/trace.py --out trace.json

Random values, a softmax policy, epsilon-greedy behavior, an episode's end in one row of twenty; 6 actions. Operators
take turns in rounds; a ratio is the median over rounds of what one took against what `one_step` took in the same round.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

from offpol import cpu
from offpol.record import provenance
from offpol.tabular import operators
from offpol.trace.watkins import Watkins
from offpol.types import TraceInputs

SIZES = ((32, 5), (32, 20), (256, 5))  # windows, transitions
ACTIONS = 6


def inputs(windows: int, n: int) -> TraceInputs:
    """Make up a batch."""
    g = torch.Generator().manual_seed(0)
    q = torch.randn(windows, n + 1, ACTIONS, generator=g)
    mu = 0.9 * torch.nn.functional.one_hot(q[:, :-1].argmax(-1), ACTIONS) + 0.1 / ACTIONS
    action = torch.multinomial(mu.flatten(0, 1), 1, generator=g).view(windows, n)
    going_on = torch.rand(windows, n, generator=g) > 0.05
    return TraceInputs.of(
        q_values=q, pi=torch.softmax(3 * q, -1), action=action, reward=torch.randn(windows, n, generator=g),
        discount=0.99 * going_on, log_mu=mu.gather(-1, action.unsqueeze(-1)).squeeze(-1).log(), valid_next=going_on,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=100, help="of an operator in a round")
    parser.add_argument("--out", type=Path, help="also write everything measured to this JSON file")
    arguments = parser.parse_args()
    cpu.set_up(1)
    traces = operators() | {"watkins": Watkins(0.95, None)}
    batches = {f"{windows} x {n}": inputs(windows, n) for windows, n in SIZES}
    measured: dict[str, dict[str, list[float]]] = {name: {size: [] for size in batches} for name in traces}
    for _ in range(arguments.rounds):
        for size, batch in batches.items():
            for name, trace in traces.items():
                began = time.process_time()
                for _ in range(arguments.calls):
                    trace(batch)
                measured[name][size].append(1e6 * (time.process_time() - began) / arguments.calls)
    print(f"| windows x transitions | {' | '.join(batches)} |\n|---|{'---|' * len(batches)}")
    for name in sorted(traces, key=lambda name: median(measured[name]["32 x 5"])):
        cells = []
        for size in batches:
            own, base = measured[name][size], measured["one_step"][size]
            ratio = median(mine / one for mine, one in zip(own, base, strict=True))
            cells.append(f"{median(own):.0f} us ({ratio:.1f})")
        print(f"| `{name}` | {' | '.join(cells)} |")
    if arguments.out:
        arguments.out.write_text(json.dumps({"about": provenance.describe(0), "microseconds": measured}, indent=1))


if __name__ == "__main__":
    main()
