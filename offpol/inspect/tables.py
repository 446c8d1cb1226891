"""What was seen of a checkpoint, in numbers: operators side by side, their distances, everything by sample age."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offpol.health import CUT
from offpol.inspect.inspection import Subject, Windows
from offpol.record.run_directory import INSPECTED, write_json
from offpol.report.pages import write_csv

BINS = 8  # of sample age, each with as many windows
RHO_EDGES = (CUT, 0.5, 0.9, 1.1)  # between the classes of rho
RHO_CLASSES = ("below 0.05", "0.05 to 0.5", "0.5 to 0.9", "about 1", "above 1.1")
LENGTH_EDGES = (1 + CUT, 2, 3, 5, 10)  # between the classes of trace length, each with its upper edge
LENGTH_CLASSES = ("1", "1 to 2", "2 to 3", "3 to 5", "5 to 10", "above 10")
CUTS = ("exploration", "policy_change", "faded")  # what ends returns before their episode or window does
Row = dict[str, Any]


@dataclass(frozen=True)
class Mean:
    """An average with its standard error, windows taken as independent; NaN of nothing."""

    value: float
    error: float

    @classmethod
    def of(cls, values: np.ndarray) -> Mean:
        """Average what is not NaN."""
        values = values[~np.isnan(values)]
        if not len(values):
            return cls(float("nan"), float("nan"))
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        return cls(float(values.mean()), float(error))


def operator_rows(windows: Windows, own: str) -> list[Row]:
    """Describe each operator's returns on the same windows, the run's own first."""
    mine = windows.returns[own]
    rows: list[Row] = []
    for name in sorted(windows.returns, key=lambda name: (name != own, name)):
        returns = windows.returns[name]
        gap = Mean.of(returns - windows.monte_carlo)
        rows.append({
            "operator": name, "mean": float(returns.mean()), "std": float(returns.std()),
            "minus_monte_carlo": gap.value, "two_standard_errors": 2 * gap.error,
            "rms_to_monte_carlo": rms(returns - windows.monte_carlo), "rms_to_own": rms(returns - mine),
            "trace_length": float(windows.lengths[name].mean()),
            **{f"ended_by_{reason}": float(ended.mean()) for reason, ended in windows.ends[name].items()},
        })  # fmt: skip
    return rows


def distances(windows: Windows) -> tuple[list[str], np.ndarray]:
    """Return the names, and the root mean square distance of each operator's returns to each other's and to MC."""
    columns = {**windows.returns, "Monte Carlo": windows.monte_carlo}
    values = list(columns.values())
    return list(columns), np.array([[rms(a - b) for b in values] for a in values])


def age_bins(windows: Windows) -> list[np.ndarray]:
    """Split the windows by age, the freshest first, into parts of equal size."""
    order = np.argsort(windows.age_updates, kind="stable")
    return np.array_split(order, min(BINS, len(order)))


def age_rows(windows: Windows, own: str) -> list[Row]:
    """Describe the windows of each part of `age_bins`: rho, trace length, what ended returns, Q against MC."""
    rows: list[Row] = []
    rho, shares, used = windows.rho, rho_shares(windows), length_shares(windows, own)
    for i, part in enumerate(age_bins(windows)):
        bias, gap = windows.q[part] - windows.monte_carlo[part], Mean.of(windows.q[part] - windows.monte_carlo[part])
        age, ratios = windows.age_updates[part], rho[part][~np.isnan(rho[part])]
        rows.append({
            "age_updates": float(age.mean()), "from": int(age.min()), "to": int(age.max()), "windows": len(part),
            "rho_mean": float(ratios.mean()),
            "rho_ess": float(ratios.sum() ** 2 / np.square(ratios).sum() / ratios.size),
            **{f"rho_{name.replace(' ', '_')}": float(x) for name, x in zip(RHO_CLASSES, shares[i], strict=True)},
            **{f"used_{name.replace(' ', '_')}": float(x) for name, x in zip(LENGTH_CLASSES, used[i], strict=True)},
            **{f"length_{name}": float(lengths[part].mean()) for name, lengths in windows.lengths.items()},
            **{f"ended_by_{reason}": float(ended[part].mean()) for reason, ended in windows.ends[own].items()},
            "known": int((~np.isnan(bias)).sum()), "q_mean": float(windows.q[part].mean()),
            "q_minus_monte_carlo": gap.value, "two_standard_errors": 2 * gap.error,
            **{f"rms_{name}": rms(r[part] - windows.monte_carlo[part]) for name, r in windows.returns.items()},
        })  # fmt: skip
    return rows


def rho_shares(windows: Windows) -> np.ndarray:
    """Return the share of each class of rho in each part of `age_bins` [parts, classes]."""
    parts = [windows.rho[part] for part in age_bins(windows)]
    kinds = [np.digitize(ratios[~np.isnan(ratios)], RHO_EDGES) for ratios in parts]
    return _shares(kinds, len(RHO_CLASSES))


def length_shares(windows: Windows, own: str) -> np.ndarray:
    """Return the share of each class of the run's own trace lengths in each part of `age_bins` [parts, classes]."""
    kinds = [np.digitize(windows.lengths[own][part], LENGTH_EDGES, right=True) for part in age_bins(windows)]
    return _shares(kinds, len(LENGTH_CLASSES))


def _shares(kinds: Sequence[np.ndarray], classes: int) -> np.ndarray:
    return np.array([np.bincount(kind, minlength=classes) / kind.size for kind in kinds])


def rms(gaps: np.ndarray) -> float:
    """Return the root mean square of what is not NaN; NaN of nothing."""
    known = gaps[~np.isnan(gaps)]
    return float(np.sqrt(np.square(known).mean())) if len(known) else float("nan")


def text(header: Sequence[str], rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Lay out rows as an aligned table; numbers to three digits."""
    cells = [list(header), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    aligned = [[f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)] for line in cells]
    return "\n".join(
        "  ".join([f"{line[0]:<{widths[0]}}", *rest[1:]]) for line, rest in zip(cells, aligned, strict=True)
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "—" if np.isnan(value) else f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def report(subject: Subject, windows: Windows) -> str:
    """Say on a screen or two what was seen."""
    own, about = subject.own, subject.found.about
    number, known = len(windows.age_updates), int((~np.isnan(windows.monte_carlo)).sum())
    shares = " and ".join(f"{name} ({share:.0%})" for name, (_, share) in subject.sources.items())
    shares = shares.replace(" (100%)", "")
    head = [
        f"{subject.spec.name} at {about['agent_steps']:,} agent steps, {about['updates']:,} updates (checkpoint "
        f"{subject.found.path.name}), gamma {subject.agent.horizon()[0]:g}",
        f"{number:,} windows of {windows.inputs.q.shape[1]} transitions, each of the {shares} ones equally often",
        f"Monte Carlo returns are known to 1% for {known:,}; of the others the episodes were cut or still go on",
    ]
    if not subject.mu_known:
        head.append(
            "Actions of noisy layers, and of data that did not log it, have no known probability: rho and what was "
            "explored mean nothing, and what needs them is left out."
        )
    if not subject.plain_rewards:
        head.append("The policy adds a bonus to rewards, which Q holds and Monte Carlo returns do not.")
    operators = text(
        ("operator", "mean", "std", "minus MC", "+-", "rms to MC", f"rms to {own}", "trace length"),
        operator_rows(windows, own),
        ("operator", "mean", "std", "minus_monte_carlo", "two_standard_errors", "rms_to_monte_carlo", "rms_to_own",
         "trace_length"),
    )  # fmt: skip
    ages = text(
        ("age, updates", "rho near 0", "rho above 1", "rho ESS", f"length {own}",
         *(cut.replace("_", " ") for cut in CUTS), "Q minus MC", "+-", "known"),
        age_rows(windows, own),
        ("age_updates", "rho_below_0.05", "rho_above_1.1", "rho_ess", f"length_{own}",
         *(f"ended_by_{cut}" for cut in CUTS), "q_minus_monte_carlo", "two_standard_errors", "known"),
    )  # fmt: skip
    return "\n".join([*head, "", operators, "", f"by sample age; what ended the returns of {own}", ages])


def write(subject: Subject, windows: Windows, seed: int, out: Path) -> list[Path]:
    """Write operators.csv, distances.csv, by_age.csv and inspect.json into a folder."""
    own = subject.own
    operators, ages, (names, values) = operator_rows(windows, own), age_rows(windows, own), distances(windows)
    for file, rows in (("operators.csv", operators), ("by_age.csv", ages)):
        write_csv(out / file, list(rows[0]), [list(row.values()) for row in rows])
    write_csv(
        out / "distances.csv", ["", *names], [[name, *line] for name, line in zip(names, values.tolist(), strict=True)]
    )
    whole = {
        "env": subject.spec.name, "checkpoint": subject.found.path.name, **subject.found.about, "operator": own,
        "gamma": subject.agent.horizon()[0], "window": windows.inputs.q.shape[1], "seed": seed,
        "windows": len(windows.age_updates), "monte_carlo_known": int((~np.isnan(windows.monte_carlo)).sum()),
        "operators": operators, "by_age": ages,
    }  # fmt: skip
    write_json(out / INSPECTED, json.loads(json.dumps(whole), parse_constant=lambda _: None))
    return [out / name for name in ("operators.csv", "distances.csv", "by_age.csv", INSPECTED)]
