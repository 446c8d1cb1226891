"""What pictures share: colors, how axes and frames are drawn, and the words for what ends a return.

Axes are handed in: an env that paints its frames does not have to import matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#4D4D4D")  # Okabe & Ito
GREY, LIGHT, INK = "#8A8A8A", "#C8C8C8", "#3A3F47"
OTHER, OWN = COLORS[:2]  # operators, and the run's own among them
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)))
FONT = 8.0


class End(NamedTuple):
    """What ends returns: its name, the color of its share, and how a sentence about one return goes on."""

    label: str
    color: str
    told: str


ENDS = {  # by the names that `offpol.health.trace_ends` gives them
    "window": End("window's end", "#9CCFA8", "nothing cut it"),
    "episode": End("episode's end", "#9BBFE0", "the episode ended it"),
    "exploration": End("explored action", "#F2C14E", "an explored action ended it"),
    "policy_change": End("policy change", "#DD6E5A", "a change of pi ended it"),
    "faded": End("operator itself", LIGHT, "it faded by the operator itself"),
}


def look(number: int) -> dict[str, Any]:
    """Return how line `number` of many is drawn: 21 differ, neighbours in both color and dash. OWN is left free.

    Dashes lie on top, so that lines that coincide are all seen.
    """
    others, dash = [color for color in COLORS if color != OWN], number % len(LINES)
    return {"color": others[number % len(others)], "ls": LINES[dash], "zorder": 2 + 0.1 * dash}


def plain(axes: Axes, grid: str = "") -> None:
    """Take the box away, and make what is not data stand back; fonts and colors set after this are kept."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LIGHT)
    axes.tick_params(labelsize=FONT, color=LIGHT, labelcolor=INK, length=3)
    axes.xaxis.label.set(fontsize=FONT + 0.5, color=INK)
    axes.yaxis.label.set(fontsize=FONT + 0.5, color=INK)
    axes.title.set_color(INK)
    if grid:
        axes.grid(axis=grid, alpha=0.3, lw=0.6)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def paint(planes: np.ndarray) -> np.ndarray:
    """Give each of the planes [C, H, W] its own color, earlier ones (player, ball) over later ones (bricks): RGB."""
    hue = np.arange(len(planes))[:, None] / len(planes) + np.array([0, 1 / 3, 2 / 3])
    colors = (127.5 + 127.5 * np.cos(2 * np.pi * hue)).astype(np.uint8)
    picture = np.zeros((*planes.shape[1:], 3), dtype=np.uint8)
    for plane, color in zip(planes[::-1], colors[::-1], strict=True):
        picture[plane > 0] = color
    return picture


def draw_frame(axes: Axes, frame: np.ndarray) -> None:
    """Draw a stored frame: images as they are, planes of zeros and ones in a color each, a vector as bars."""
    if frame.ndim == 1:
        axes.bar(range(len(frame)), frame, color=OTHER, width=0.8)
        axes.axhline(0, color=LIGHT, lw=0.8)
        low, high = min(float(frame.min()), 0.0), max(float(frame.max()), 0.0)
        axes.set_ylim(low - 0.1 * (high - low) - 1e-6, high + 0.1 * (high - low) + 1e-6)
        return
    if frame.ndim == 3 and frame.max(initial=0) <= 1:
        frame = paint(frame)
    elif frame.ndim == 3:  # channels are first; what is not RGB has no colors of its own
        frame = np.moveaxis(frame, 0, -1) if frame.shape[0] == 3 and frame.dtype == np.uint8 else frame.max(axis=0)
    axes.imshow(frame, cmap="gray", interpolation="nearest")


def without_action(row: np.void, over: bool = False) -> str:
    """Say what the frame of a row is there for where no action counts: the end is of the episode, or of the window."""
    return "episode over" if over or not row["valid"] else "bootstrap"


def outcome(row: np.void) -> str:
    """Say what the action of a stored row led to."""
    end = "  terminated" if row["terminated"] else "  truncated" if row["truncated"] else ""
    return f"reward {row['reward']:+.3g}{end}"
