"""The line that tells how far a run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from offpol.output import is_terminal, tell

PLAIN_EVERY_S = 10.0  # between two lines, where the output is no terminal


class Progress:
    """A bar on a terminal; elsewhere (a log file) a line now and then.

    Before learning starts a run is several times faster, so that only the speed since then tells how long it will take.
    """

    def __init__(self, total_agent_steps: int, agent_steps: int, learning_starts: int = 0) -> None:
        self.is_terminal = is_terminal()
        self.bar = tqdm(
            total=total_agent_steps, initial=agent_steps, unit=" agent steps", unit_scale=True, dynamic_ncols=True,
            smoothing=0.05, disable=not self.is_terminal,
        )  # fmt: skip
        self.total, self.agent_steps, self.learning_starts = total_agent_steps, agent_steps, learning_starts
        self._last_line = (time.monotonic(), agent_steps)

    def update(self, agent_steps: int) -> None:
        """Move to a number of agent steps."""
        self.bar.update(agent_steps - self.agent_steps)
        self.agent_steps = agent_steps

    def show(self, facts: Mapping[str, float]) -> None:
        """Say the newest numbers beside the bar."""
        text = ", ".join(f"{name} {number:.3g}" for name, number in facts.items())
        if self.is_terminal:
            self.bar.set_postfix_str(text, refresh=False)
            return
        now, (then, steps_then) = time.monotonic(), self._last_line
        if now - then < PLAIN_EVERY_S and self.agent_steps < self.total:
            return
        speed = (self.agent_steps - steps_then) / max(now - then, 1e-9)
        left = tqdm.format_interval(max(0, self.total - self.agent_steps) / max(speed, 1e-9)) + " left"
        if steps_then < self.learning_starts < self.total and self.agent_steps < self.total:
            left = f"learning from {self.learning_starts:,} on"
        share = min(1.0, self.agent_steps / self.total)
        tell(f"{share:4.0%} {self.agent_steps:,}/{self.total:,} agent steps, {speed:.0f}/s, {left}, {text}")
        self._last_line = (now, self.agent_steps)

    def say(self, line: str) -> None:
        """Print a line without tearing the bar."""
        if self.is_terminal:
            tqdm.write(line, file=sys.stderr)
        else:
            tell(line)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()
