"""A chain that says that a step is four frames, as Atari's are, for tests that start whole runs."""

from dataclasses import replace

from offpol.env.chain import Chain
from offpol.types import EnvSpec


class ManyFrames(Chain):
    """Differ from the chain by the frames of a step alone."""

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec) -> None:
        self._spec = replace(spec, frames_per_agent_step=4)
