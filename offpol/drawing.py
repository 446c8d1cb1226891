"""What pictures share: colors, how axes and frames are drawn, and the words for what ends a return.

Axes are handed in: an env that paints its frames does not have to import matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#4D4D4D")  # Okabe & Ito
GREY, LIGHT, INK = "#8A8A8A", "#C8C8C8", "#3A3F47"
OTHER, OWN = COLORS[:2]  # operators, and the run's own among them
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
