"""The figure of `offpol-tabular`: bias, speed and noise of every operator, by how off-policy the data is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from offpol.drawing import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from offpol.tabular import Finding

# A colour for each family: what corrects nothing is warm, ratios on action values cold, on state values green.
STYLES = {
    "one_step": ("black", "-"), "n_step": ("#d62728", "-"), "gae": ("#ff7f0e", "--"), "peng": ("#e6b400", "-."),
    "q_lambda": ("#8c564b", "-"), "importance_sampling": ("#7f7f7f", ":"), "tree_backup": ("#9ecae1", "-"),
    "retrace": ("#1f77b4", "-"), "rbis": ("#08306b", "--"), "c_trace": ("#9467bd", "-."), "vtrace": ("#2ca02c", "-"),
    "puffer": ("#98df8a", "--"),
}  # fmt: skip
DASH_DOT_DOT = (0, (5, 1, 1, 1, 1, 1))  # of operators that are not in the list: no other line is drawn so
COLUMNS = 6  # of the legend


def draw(results: Mapping[str, list[Finding]], epsilons: Sequence[float], shown: int, path: Path) -> None:
    """Save the figure: bias, speed and noise by epsilon, and the error by application at one of them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(11, 8.5))
    (bias, speed), (noise, error) = panels
    foreign = [name for name in results if name not in STYLES]
    for name, findings in results.items():
        color, linestyle = STYLES.get(name) or (look(foreign.index(name))["color"], DASH_DOT_DOT)
        style = {"label": name, "color": color, "linestyle": linestyle, "linewidth": 2.0}
        bias.plot(epsilons, [f.bias for f in findings], **style)
        speed.plot(epsilons, [f.worth for f in findings], **style)
        noise.plot(epsilons, [f.noise for f in findings], **style)
        error.plot(findings[shown].errors, **style)
    _label(bias, "Bias: where it ends", "max |Q - Q$^\\pi$| at the fixed point")
    bias.set_yscale("symlog", linthresh=0.1)
    unbiased = [name for name, findings in results.items() if max(f.bias for f in findings) < 1e-6]
    lines = textwrap.fill("on 0: " + ", ".join(unbiased), 40)
    bias.annotate(lines, (0.98, 0.07), xycoords="axes fraction", ha="right", va="bottom", fontsize=8)
    _label(speed, "Speed: how far an application carries", "one-step backups that it is worth")
    _label(noise, "Noise: what a single window tells", "standard deviation of a return")
    _label(error, f"All of it but the noise, epsilon {epsilons[shown]:g}", "max |Q - Q$^\\pi$|", "applications")
    error.set_yscale("log")
    handles, labels = bias.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=COLUMNS, frameon=False)
    figure.suptitle("What a multi-step return gives, and what each correction costs: a random MDP, exactly")
    figure.tight_layout(rect=(0, 0.03 * -(-len(results) // COLUMNS), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _label(panel: Axes, title: str, y: str, x: str = "epsilon of the behavior (0: on-policy)") -> None:
    panel.set(title=title, xlabel=x, ylabel=y)
    panel.grid(alpha=0.25)
