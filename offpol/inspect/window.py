"""One window drawn as frames: what was done, with which probability, and what every operator makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offpol.drawing import ENDS, GREY, LIGHT, OTHER, OWN, draw_frame, outcome, plain, without_action
from offpol.inspect.inspection import Subject, Windows

MAX_ACTIONS = 18  # that are drawn
GAP = 0.08  # between columns, in widths of one


def choose(windows: Windows, own: str) -> int:
    """Choose the window to draw: the first whose return is cut on the way by its actions, else the first."""
    ends = windows.ends[own]
    cut = (ends["exploration"] | ends["policy_change"]) & (windows.lengths[own] > 1.5)
    wanted = [cut & ~np.isnan(windows.monte_carlo), cut, ~np.isnan(windows.monte_carlo)]
    return next((int(np.flatnonzero(mask)[0]) for mask in wanted if mask.any()), 0)


def picture(subject: Subject, windows: Windows, w: int) -> Figure:
    """Draw window number w: frames, pi with the logged mu, weights, td errors, rewards, and all returns."""
    n, own = windows.inputs.q.shape[1], subject.own
    figure = Figure(figsize=(max(9.5, 1.75 * (n + 1) + 1.6), 7.5 + 0.24 * len(windows.returns)))
    heights = (1.75, 1.1, 0.8, 0.8, 0.185 * len(windows.returns))
    grid = figure.add_gridspec(
        5, n + 1, height_ratios=heights, left=1.55 / figure.get_figwidth(), right=0.985, top=0.925, bottom=0.055,
        wspace=GAP, hspace=0.42,
    )  # fmt: skip
    shown = _shown(windows, w)
    _frames([figure.add_subplot(grid[0, t]) for t in range(n + 1)], subject, windows, w, shown)
    _policies([figure.add_subplot(grid[1, t]) for t in range(n)], windows, w, shown)
    weights, errors = (figure.add_subplot(grid[row, :]) for row in (2, 3))
    _weights(weights, windows, w, own, shown)
    _td_errors(errors, windows, w, shown)
    for axes in (weights, errors):
        reach = 0.5 / (1 + GAP)  # so that bars stand below the middle of their frames
        axes.set(xlim=(-reach, n + reach), xticks=[])
        plain(axes)
    _returns(figure.add_subplot(grid[4, :]), windows, w, own)
    length, reason = windows.lengths[own][w], next(name for name, ended in windows.ends[own].items() if ended[w])
    figure.suptitle(
        f"{subject.spec.name}: one window of {n} transitions, {windows.age_updates[w]:,} updates old.   "
        f"{own} used {length:.2f} of {n} rewards: {ENDS[reason].told}.",
        fontsize=11.5, x=0.012, y=0.985, ha="left",
    )  # fmt: skip
    return figure


def _shown(windows: Windows, w: int) -> int:
    """Count the rows that belong to the episode of the window's first row, its end included."""
    goes_on = windows.inputs.valid_next[w].numpy() & (windows.inputs.discount[w].numpy() > 0)
    return int(np.append(goes_on, False).argmin()) + 1


def _frames(columns: Sequence[Axes], subject: Subject, windows: Windows, w: int, shown: int) -> None:
    n = windows.inputs.q.shape[1]
    source, slot = windows.place[w]
    ring = list(subject.sources.values())[source][0]
    for t, (axes, slot_t) in enumerate(zip(columns, ring.window_slots(np.array([slot]), n)[0], strict=True)):
        frame, row = ring.frames[slot_t], ring.records[slot_t]
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(LIGHT)
        if t > shown:
            axes.set_facecolor("#F4F4F4")
            axes.text(
                0.5, 0.5, "next\nepisode", ha="center", va="center", color=GREY, fontsize=9, transform=axes.transAxes
            )
            continue
        draw_frame(axes, frame)
        if t in (n, shown):
            over = t == shown and bool(windows.inputs.discount[w, t - 1] == 0)
            axes.set_title(without_action(row, over), fontsize=9, color=GREY)
            continue
        axes.set_title(f"t{f' + {t}' if t else ''}   {_name(subject, int(row['action']))}", fontsize=9.5, weight="bold")
        axes.set_xlabel(outcome(row), fontsize=8.5, labelpad=2)


def _policies(columns: Sequence[Axes], windows: Windows, w: int, shown: int) -> None:
    """Draw pi of every action; the taken one in color, with the mu it was drawn with as a line."""
    inputs = windows.inputs
    actions = min(inputs.pi.shape[-1], MAX_ACTIONS)
    for t, axes in enumerate(columns):
        axes.set(xticks=[], ylim=(0, 1.05), yticks=[0, 1] if t == 0 else [])
        plain(axes)
        if t >= shown:
            axes.set_axis_off()
            continue
        pi, taken = inputs.pi[w, t].numpy(), int(inputs.action[w, t])
        mu, rho = float(inputs.log_mu[w, t].exp()), float((inputs.log_pi[w, t] - inputs.log_mu[w, t]).exp())
        axes.bar(
            range(actions), pi[:actions], color=[OWN if a == taken else "#C9D6E2" for a in range(actions)], width=0.85
        )
        axes.plot([taken - 0.6, taken + 0.6], [mu, mu], color="black", lw=2.2, solid_capstyle="butt")
        axes.set_xlim(-0.9, actions - 0.1)
        axes.set_xlabel(f"mu {_short(mu)}   pi {_short(pi[taken])}\nrho {_short(rho)}", fontsize=8.5, labelpad=3)
    columns[0].set_ylabel("pi(·|s)\n— mu(a|s)", fontsize=9)


def _weights(axes: Axes, windows: Windows, w: int, own: str, shown: int) -> None:
    """Draw the weight with which each step's td error enters the first return, and the coefficient c."""
    n = windows.inputs.q.shape[1]
    c = windows.targets[own].trace[w].numpy()
    steps = min(shown, n)
    weight = np.minimum(1.0, np.concatenate([[1.0], np.cumprod(c[1:steps])]))
    axes.bar(range(steps), weight, color=OWN, alpha=0.85, width=0.5)
    for t in range(steps):
        label = f"{weight[t]:.2f}" if t == 0 else f"{weight[t]:.2f}   c = {_short(float(c[t]))}"
        axes.text(t, weight[t] + 0.04, label, ha="center", fontsize=8.5)
    axes.set(ylim=(0, 1.3), yticks=[0, 1])
    axes.set_ylabel(f"weight of\nthe td error\n({own})", fontsize=9)


def _td_errors(axes: Axes, windows: Windows, w: int, shown: int) -> None:
    """Draw r + d v' - q of every step."""
    inputs = windows.inputs
    n = inputs.q.shape[1]
    errors = (inputs.reward + inputs.discount * inputs.v[:, 1:] - inputs.q)[w, : min(shown, n)].numpy()
    axes.bar(range(len(errors)), errors, color=[OTHER if e >= 0 else "#B2182B" for e in errors], width=0.5)
    axes.axhline(0, color=GREY, lw=0.8)
    reach = max(float(np.abs(errors).max()), 1e-6)
    for t, error in enumerate(errors):
        side = "bottom" if error >= 0 else "top"
        axes.text(t, error + np.copysign(0.06 * reach, error), f"{error:+.3f}", ha="center", va=side, fontsize=8.5)
    axes.set_ylim(-1.6 * reach, 1.6 * reach)
    axes.set_ylabel("td error\nr + d v' - q", fontsize=9)


def _returns(axes: Axes, windows: Windows, w: int, own: str) -> None:
    """Draw the return that every operator gives the window's first row, between Q and what really came."""
    plain(axes)
    returns = {name: float(values[w]) for name, values in windows.returns.items()}
    names = sorted(returns, key=lambda name: (returns[name], name))
    y = np.arange(len(names))
    q, truth = float(windows.q[w]), float(windows.monte_carlo[w])
    axes.hlines(y, q, [returns[name] for name in names], color=LIGHT, lw=2.5, zorder=1)
    axes.scatter(
        [returns[name] for name in names], y, c=[OWN if name == own else OTHER for name in names], s=46, zorder=3
    )
    for place, name in zip(y, names, strict=True):
        right = returns[name] >= q
        axes.annotate(f"{returns[name]:.3f}", (returns[name], place), xytext=(8 if right else -8, 0), fontsize=8,
                      textcoords="offset points", va="center", ha="left" if right else "right")  # fmt: skip
    axes.axvline(q, color=GREY, lw=1.2, ls="--", label=f"Q(s, a) before: {q:.3f}")
    if not np.isnan(truth):
        axes.axvline(truth, color="#009E73", lw=1.6, label=f"Monte Carlo, what really came: {truth:.3f}")
    axes.set_yticks(y, names, fontsize=8.5)
    for label in axes.get_yticklabels():
        if label.get_text() == own:
            label.set(color=OWN, weight="bold")
    axes.margins(x=0.12)
    axes.set_xlabel("return of the window's first row", fontsize=9)
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")


def _name(subject: Subject, action: int) -> str:
    names: Sequence[str] = subject.spec.action_names
    return names[action] if action < len(names) else f"action {action}"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 0.095 else f"{value:.2f}" if value < 10 else f"{value:.3g}"
