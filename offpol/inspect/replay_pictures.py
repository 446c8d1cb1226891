"""Pictures of a replay: histograms, and a contact sheet of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from offpol.drawing import COLORS, draw_frame, outcome, plain, without_action
from offpol.memory.ring import Ring


def edges(values: np.ndarray, bins: int, logarithmic: bool) -> np.ndarray:
    """Return the edges of bins [bins + 1] that hold all values, evenly spaced or in their logarithms."""
    low, high = float(values.min()), float(values.max())
    if not logarithmic:
        return np.linspace(low, max(high, low + 1), bins + 1)
    low = max(low, high * 1e-6, 1e-12)
    inner = np.geomspace(low, max(high, low * 1.001), bins + 1)
    inner[0], inner[-1] = min(float(values.min()), low), max(high, inner[-1])
    return inner


def histograms(path: Path, ages: np.ndarray, priorities: np.ndarray | None) -> None:
    """Draw the ages of rows and, where there are any, the priorities of windows."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 1 if priorities is None else 2, squeeze=False)[0]
    if len(ages):
        axes[0].hist(ages, edges(ages, 40, False), color=COLORS[0])
    axes[0].set(title="age of the rows", xlabel="updates since the policy that acted", ylabel="rows")
    if priorities is not None:
        if len(priorities):
            axes[1].hist(priorities, edges(priorities, 40, True), color=COLORS[4])
            axes[1].set_xscale("symlog", linthresh=1e-6)
        axes[1].set(title="priorities", xlabel="priority", ylabel="windows that can be drawn")
    for panel in axes:
        plain(panel)
    FigureCanvasAgg(figure).print_png(path)


def contact_sheet(path: Path, ring: Ring, number: int, rng: np.random.Generator) -> None:
    """Draw windows, one a line: each row's newest frame, its action, mu of it and the reward.

    Raises RuntimeError where no window is stored.
    """
    starts = ring.draw(rng, number)
    figure = Figure(figsize=(1.6 * (ring.window + 1), 1.9 * number), layout="constrained")
    axes = figure.subplots(number, ring.window + 1, squeeze=False)
    for line, slot_line in zip(axes, ring.window_slots(starts, ring.window), strict=True):
        for axis, slot in zip(line, slot_line, strict=True):
            draw_frame(axis, ring.frames[slot])
            axis.set(xticks=[], yticks=[])
            row = ring.records[slot]
            if slot == slot_line[-1] or not row["valid"]:
                axis.set_title(without_action(row), fontsize=6)
                continue
            axis.set_title(f"a={row['action']} mu={np.exp(row['behavior_log_prob']):.3f}", fontsize=6)
            axis.set_xlabel(outcome(row), fontsize=6, labelpad=2)
    for line, slot in zip(axes, starts, strict=True):
        line[0].set_ylabel(f"slot {slot}", fontsize=6)
    FigureCanvasAgg(figure).print_png(path)
