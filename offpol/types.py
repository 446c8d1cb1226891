"""The words every part of offpol shares: what flows between parts, and what each part must offer.

Shapes: B windows, n transitions a window, E envs of an actor (each env is one *stream*), A actions,
K bins of the critic, H critics of an ensemble, M flattened rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from offpol.actor import Actor, Values
    from offpol.agent import Agent
    from offpol.batch import Batch as Batch
    from offpol.run import Run

StateDict = dict[str, Any]
Mixture = Literal["taken", "expected"]  # what a trace is to distributions, see `Trace`


def __getattr__(name: str) -> Any:
    """Import Batch when it is first asked for: tensordict takes longer to import than torch."""
    if name == "Batch":
        from offpol.batch import Batch

        return Batch
    raise AttributeError(f"offpol.types has no {name}")


# ---------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class EnvSpec:
    """What the rest of offpol knows of an env.

    `frame_shape` and `dtype` describe what one row stores. With `stack` > 1 an observation is the newest
    `stack` frames, oldest first, on a leading axis; frames from before the episode's first are zero.
    """

    name: str
    num_envs: int
    num_actions: int
    frame_shape: tuple[int, ...]
    dtype: torch.dtype
    stack: int = 1
    byte_high: int = 255  # where dtype is uint8: the largest number there is, which networks scale to 1
    frames_per_agent_step: int = 1  # emulator frames, for reports
    action_names: tuple[str, ...] = ()  # for people; empty where nobody named them
    evaluation_epsilon: float = 0.0  # share of random actions when its protocol evaluates

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation: `(stack, *frame_shape)`, or `frame_shape` where nothing is stacked."""
        return (self.stack, *self.frame_shape) if self.stack > 1 else self.frame_shape

    @property
    def obs_scale(self) -> float:
        """What brings byte observations to [0, 1]; 1 for all others, which stay as they are."""
        return 1.0 / self.byte_high if self.dtype == torch.uint8 else 1.0


class EnvStep(NamedTuple):
    """What one call of `Env.step` returns; numpy arrays with a leading axis of E envs.

    `obs` is the observation after the action. Where an episode has just ended it is the terminal one; the
    next call then ignores that env's action, returns `valid` False and the new episode's first observation
    (gymnasium's NEXT_STEP autoreset). `terminated` may be set without a reset (a lost life).
    """

    obs: np.ndarray  # [E, *obs_shape]
    reward: np.ndarray  # [E] float32, the learner's (clipped where the env adapter clips)
    raw_reward: np.ndarray  # [E] float64, the score's
    terminated: np.ndarray  # [E] bool, never bootstrap from obs
    truncated: np.ndarray  # [E] bool, the episode was cut: bootstrap from obs
    valid: np.ndarray  # [E] bool, False where the action was ignored because the env was resetting
    game_over: np.ndarray  # [E] bool, the full game ended here: what scores are counted by


class Rows(NamedTuple):
    """One row per stream, as an actor logs them; numpy arrays with a leading axis of E streams.

    A row holds the observation the action was taken in (its newest frame only), the action, and what came
    of it. Rows with `valid` False hold a terminal observation and are never trained on.
    """

    obs: np.ndarray  # [E, *frame_shape]
    action: np.ndarray  # [E] int64
    reward: np.ndarray  # [E] float32
    terminated: np.ndarray  # [E] bool
    truncated: np.ndarray  # [E] bool
    valid: np.ndarray  # [E] bool
    behavior_log_prob: np.ndarray  # [E] float32, log mu of the action that was drawn
    policy_version: np.ndarray  # [E] int64, the update count of the parameters that acted


@dataclass(frozen=True)
class TraceInputs:
    """What a trace operator may look at. No tensor carries a gradient.

    pi is the policy that is evaluated, Q the target network's; `q_values` and `pi` of the window's last
    observation are there to bootstrap from, its action never matters.
    """

    q_values: Tensor  # [B, n+1, A] Q(s, .)
    pi: Tensor  # [B, n+1, A] pi(.|s)
    action: Tensor  # [B, n] int64, a_t
    q: Tensor  # [B, n] Q(s_t, a_t)
    v: Tensor  # [B, n+1] sum_a pi(a|s_t) Q(s_t, a)
    reward: Tensor  # [B, n]
    discount: Tensor  # [B, n] gamma (1 - terminated)
    log_pi: Tensor  # [B, n] log pi(a_t|s_t), -inf where pi never takes a_t
    log_mu: Tensor  # [B, n] log of the logged behavior probability of a_t
    valid_next: Tensor  # [B, n] bool

    @property
    def greedy(self) -> Tensor:
        """[B, n] bool: Q(s_t, a_t) is the maximum of Q(s_t, .)."""
        return self.q >= self.q_values[:, :-1].amax(-1)

    @classmethod
    def of(
        cls,
        q_values: Tensor,
        pi: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        log_mu: Tensor,
        valid_next: Tensor,
    ) -> TraceInputs:
        """Derive q, v and log_pi from the values of all actions.

        q_values, pi [B, n+1, A]; action (int64), reward, discount, log_mu, valid_next (bool) [B, n].
        """
        taken = action.unsqueeze(-1)
        q = q_values[:, :-1].gather(-1, taken).squeeze(-1)
        return cls(
            q_values=q_values, pi=pi, action=action, q=q, v=(pi * q_values).sum(-1), reward=reward, discount=discount,
            log_pi=pi[:, :-1].gather(-1, taken).squeeze(-1).log(), log_mu=log_mu, valid_next=valid_next,
        )  # fmt: skip


class TraceTargets(NamedTuple):
    """What a trace operator returns, all [B, n] and without gradient."""

    returns: Tensor  # learning target of Q(s_t, a_t)
    advantage: Tensor  # of a_t over the policy, for policy gradients
    trace: Tensor  # the coefficients c_t that were used, for diagnostics


@dataclass(frozen=True)
class Outputs:
    """What critic and policy ask of a network."""

    initial_logits: Tensor  # [K] what an action's logits are to be before anything is learned
    num_critics: int  # H
    policy: bool  # whether a policy is learned; without one the policy logits are zeros


class NetworkOutput(NamedTuple):
    """Raw outputs of a network for M observations."""

    q_logits: Tensor  # [H, M, A, K]
    policy_logits: Tensor  # [M, A]


@dataclass(frozen=True)
class PolicyInputs:
    """What a policy loss may look at, over M trained rows. Only `logits` carries a gradient."""

    logits: Tensor  # [M, A] of the online network
    pi: Tensor  # [M, A] the target network's policy
    q_values: Tensor  # [M, A] the target network's Q
    action: Tensor  # [M] int64
    log_mu: Tensor  # [M]
    returns: Tensor  # [M] the trace's target of Q(s, a)
    advantage: Tensor  # [M] the trace's advantage of the action taken
    share: Tensor  # [M] weights that sum to 1 over the rows that count; 0 for the others, whose loss is ignored

    @property
    def gaps(self) -> Tensor:
        """[M, A] Q(s, a) - V(s), the advantage of every action under the target network."""
        return self.q_values - (self.pi * self.q_values).sum(-1, keepdim=True)

    @property
    def log_prior(self) -> Tensor:
        """[M, A] log of the target network's policy, finite."""
        return self.pi.clamp(min=torch.finfo(self.pi.dtype).tiny).log()


# ----------------------------------------------------------------------------------------- the seams


class Env(Protocol):
    """E environments stepped together. Built with the keywords `num_envs` and `seed`."""

    spec: EnvSpec

    def reset(self) -> np.ndarray:
        """Start the first episode of every env; return observations [E, *obs_shape]."""

    def step(self, action: np.ndarray) -> EnvStep:
        """Step every env by its action [E] int64; the arrays are new ones each time."""

    def render(self) -> np.ndarray:
        """Picture env 0 as it stands now: RGB uint8 [height, width, 3]."""

    def state_dict(self) -> StateDict:
        """Everything needed to go on exactly from here (tensors, numbers, strings, lists and dicts)."""

    def load_state_dict(self, state: StateDict) -> None:
        """Go on exactly from where `state_dict` was taken, in an env built with the same arguments."""

    def close(self) -> None:
        """Release the emulators."""


class Behavior(Protocol):
    """How actors explore: a distribution over actions, exact enough to log; a function of what it is given.

    One whose streams differ is built with the keywords `first_stream` and `num_streams`: which of all streams of the
    run this actor steps. Its attribute `over`, "q" or "policy", says what it follows, and so by what the final games
    are played where `run.eval_over` is null; one that has none follows Q.
    """

    def probs(self, q: Tensor, pi: Tensor, agent_steps: int) -> Tensor:
        """Return mu(.|s) [E, A] from Q(s, .) and the policy pi(.|s), both [E, A]."""


class Replay(Protocol):
    """Rows of many streams, drawn as windows. Built with the keywords `spec`, `window` (n) and `seed`.

    It may also take `run_directory`, and `device`: the learner's.
    """

    capacity_rows: int  # rows it can hold, of all streams together

    def add(self, rows: Rows, first_stream: int = 0) -> None:
        """Append one row to each of the streams first_stream .. first_stream + E - 1."""

    def cut(self, stream: int) -> None:
        """End a stream whose env was lost: its newest row becomes a bootstrap row, its next starts anew."""

    def sample(self, batch_size: int) -> Batch:
        """Draw windows with replacement; raise RuntimeError where no whole window is stored."""

    def update_priorities(self, index: Tensor, generation: Tensor, priority: Tensor) -> int | Tensor:
        """Set priorities [B] of drawn windows; return how many were dropped (their slot was rewritten).

        A number, or a tensor (0-dim) where reading it would mean to wait for a device.
        """

    def __len__(self) -> int:
        """Count the windows that can be drawn."""

    def state_dict(self, since: Tensor | None = None) -> StateDict:
        """Everything needed to go on; `rows`, where there is such a key, is a list of segments.

        A segment is a dict of tensors with `stop` [S], how many rows each stream has had, and `oldest` [S], the
        number of the oldest row that is still there. Given the newest saved `stop` as `since`, rows before are left
        out; `load_state_dict` then gets the saved segments and the new one, in order.
        """

    def load_state_dict(self, state: StateDict) -> None: ...


class DeviceReplay(Replay, Protocol):
    """A replay on the learner's device, whose draws may be recorded as part of a CUDA graph."""

    lock: AbstractContextManager[Any]  # held while any of these is called

    def chances(self, batch_size: int) -> np.ndarray:
        """Draw the numbers of one draw on the host, float64; RuntimeError where no whole window is stored."""

    def draw(self, chances: Tensor) -> Batch:
        """Draw windows by these numbers: work of the device alone."""

    def prioritize(self, index: Tensor, generation: Tensor, priority: Tensor) -> Tensor:
        """Do what `update_priorities` does: work of the device alone."""


class Module(Protocol):
    """What networks, critics and policies have as torch.nn.Modules."""

    training: bool

    def to(self, *args: Any, **kwargs: Any) -> Self: ...

    def train(self, mode: bool = True) -> Self: ...

    def requires_grad_(self, requires_grad: bool = True) -> Self: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def state_dict(self) -> StateDict: ...

    def load_state_dict(self, state_dict: StateDict) -> Any: ...


class Network(Module, Protocol):
    """An nn.Module. Built with the keywords `spec` and `outputs`."""

    def __call__(self, obs: Tensor) -> NetworkOutput:
        """Map observations [M, *obs_shape] to values and policy.

        They are float32 whatever the env gives (bytes: 0 to 255); while `run.autocast=bfloat16` learns, bytes come as
        bfloat16, which holds each of them exactly.
        """


class Critic(Module, Protocol):
    """An nn.Module: what the K outputs of an action mean."""

    num_critics: int
    separate_networks: bool  # each critic of an ensemble has a whole network, not a head of one
    initial_logits: Tensor  # [K] what an action's logits are to be before anything is learned
    distributional: bool  # its targets are made of distributions: it needs the trace's `mixture`

    def value(self, logits: Tensor) -> Tensor:
        """Decode logits [..., K] to values [...]."""

    def join(self, values: Tensor) -> Tensor:
        """Join the ensemble's values [H, ...] to those that learning targets are made of [...]."""

    def targets(self, inputs: TraceInputs, traced: TraceTargets, logits: Tensor, mixture: Mixture | None) -> Tensor:
        """Return what `loss` compares with, [B, n, ...]: the trace's returns [B, n], or distributions.

        logits [H, B, n+1, A, K] of the target network; mixture as the trace declares it.
        """

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compare logits [H, M, K] with rows of `targets` [M, ...]; return [H, M], no gradient to the targets."""

    def clamp(self, returns: Tensor) -> Tensor:
        """Return the nearest returns [...] that the critic can represent: its loss goes no further."""


class Policy(Module, Protocol):
    """An nn.Module: the policy that is evaluated, and how it learns."""

    double: bool  # the target policy is the online network's (double Q-learning), not the target network's
    learned: bool  # it reads the network's policy logits and trains them
    needs_mu: bool  # its loss compares pi with the logged probability
    weighs_advantage: bool  # its loss multiplies the trace's advantage by pi/mu
    # Of a window, the rows whose target outputs it reads: those that returns bootstrap from, the trained ones too, or
    # all, as one whose `regularise` changes every reward must say.
    reads_rows: Literal["next", "trained", "all"]

    def probs(self, q: Tensor, policy_logits: Tensor) -> Tensor:
        """Return pi(.|s) from Q(s, .) and the network's policy logits, all [..., A].

        Nothing that learning changes may enter it but through these: actors keep a copy of the policy.
        """

    def regularise(self, inputs: TraceInputs) -> TraceInputs:
        """Return what the trace is to see: rewards with the policy's own bonus, or unchanged.

        A bonus of the next state, as an entropy, is added to the reward, times the discount: every critic and trace
        learns from rewards, while one put into `v` reaches neither distributions nor a maximum over Q.
        """

    def loss(self, inputs: PolicyInputs, measure: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss per row [M] and, with `measure`, numbers to log (0-dim tensors), by names of its own."""


class Trace(Protocol):
    """A pure function from a window to learning targets.

    A class states what holds of it, each checked or used where it matters, and leaves out what does not:

    - `needs_mu = True`: it reads `log_mu`, which noisy layers do not have.
    - `mixture = "taken"` or `"expected"`: it is linear in the values that it bootstraps from, so that critics may learn
      distributions through it (offpol.mixture). Where the trace goes on, c_t Q(s_t, a_t) is taken off the bootstrap
      E_pi Q(s_t, .), or c_t E_pi Q(s_t, .) is.
    - `weighted_advantage = True`: its advantage is multiplied by pi/mu already.
    - `joins_steps = True`: its first return stays the same where a window is joined to one n-step transition
      (offpol.n_step_transitions), so that networks are spared all rows but the first and the one bootstrapped from.
    - `reads_batch = True`: what it returns for a window depends on the others of the batch. It takes, behind the
      inputs, how much each window counts [B], or None for all alike; data-parallel processes, with a share each, refuse
      it.
    - `off_policy = False`: it corrects nothing and is for data of pi itself; an agent with a replay refuses it.
    """

    def __call__(self, inputs: TraceInputs) -> TraceTargets: ...


class Actors(Protocol):
    """Builds what acts. It can be sent to another process, and builds there."""

    @property
    def spec(self) -> EnvSpec:
        """Describe the env, with the streams of all workers together."""

    def build(self, values: Values, restarts: int = 0, state: StateDict | None = None) -> Actor:
        """Build the actor of all streams, in the learner's process; `values` are of the learner's agent.

        `restarts` counts those that were lost before it, so that each draws its own random numbers. It goes on from
        `state`, where that is given.
        """

    def build_worker(self, worker: int, num_workers: int, restarts: int) -> tuple[Agent, Actor]:
        """Build one of several actors, of an equal share of the streams each, in a process of its own.

        With it comes an agent on the CPU for it to act by, whose parameters are to come from the learner.
        """


class Topology(Protocol):
    """Who acts and who learns, when."""

    def run(self, actors: Actors, agent: Agent, replay: Replay, run: Run) -> None:
        """Act and learn until `run` says it is done. Goes on from `run.resumed`, what `save` gave, where there is."""
