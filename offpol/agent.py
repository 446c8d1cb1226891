"""Agent: online and target parameters, and the update that every recipe of offpol shares.

Read `Agent.update` first: it is the whole of learning on one page.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from offpol.acting import Acting, Autocast, forward
from offpol.agent_settings import TargetConfig, check_settings
from offpol.combinations import check_parts
from offpol.health import health
from offpol.n_step_transitions import join_batch, joins_steps
from offpol.optimizer import OptimizerConfig, adamw, load_adamw
from offpol.policy_base import entropy
from offpol.processes import backward
from offpol.resets import AnnealingConfig, ResetConfig, reset
from offpol.transfer import upload
from offpol.types import (
    Critic,
    Network,
    NetworkOutput,
    Policy,
    PolicyInputs,
    StateDict,
    Trace,
    TraceInputs,
    TraceTargets,
)

if TYPE_CHECKING:
    from offpol.types import Batch
    from offpol.whole_update import WholeUpdate


class Terms(NamedTuple):
    """Scalars that change from update to update; tensors (0-dim) inside a CUDA graph."""

    updates: int | Tensor  # the number of this update, from 1
    gamma: float | Tensor
    window: int  # the transitions that are used of each window
    follow: bool  # the target network moves afterwards


class Update(NamedTuple):
    """What one update returns; tensors stay on the agent's device."""

    priority: Tensor  # [B] |td error| in value units
    metrics: dict[str, Tensor]  # 0-dim; empty unless measured
    finite: Tensor  # 0-dim bool: loss, gradient and all priorities are finite; if not, no parameter was changed


def discounts(batch: Batch, gamma: float | Tensor) -> Tensor:
    """Return the discount of each transition [B, n]: gamma, or 0 where the episode ended by itself."""
    return torch.where(batch.terminated, 0.0, gamma)


class Agent:
    """Learns Q by a critic towards the returns of a trace operator, and a policy beside it.

    Args:
        build_network: draws a network, with outputs for the critics and the policy; called again at every reset.
        critic, policy, trace: see the Protocols of `offpol.types`.
        gamma: discount per agent step.
        window: n, transitions per window.
        train_positions: how many of the window's n positions are trained, from its first: 1 is Rainbow's way,
            n is R2D2's.
        batch_size: B, windows per update.
        policy_coefficient: weight of the policy loss beside the critic's.
        priority_max_share: a window's priority is this share of its largest |td error| and the rest of its
            mean (R2D2: 0.9).
        target: how the target network follows, and whether it acts.
        optimizer: of all parameters together.
        resets, annealing: what begins anew during a run.
        device: where parameters live and learn.
        actor_device: where actors' values are computed, with a copy of the network if elsewhere; None: on `device`.
        autocast: what the networks compute in; targets, losses and the parameters stay float32.
    """

    def __init__(
        self, build_network: Callable[[], Network], critic: Critic, policy: Policy, trace: Trace, *, gamma: float,
        window: int, train_positions: int, batch_size: int, policy_coefficient: float, priority_max_share: float,
        target: TargetConfig, optimizer: OptimizerConfig, resets: ResetConfig, annealing: AnnealingConfig,
        device: str = "cpu", actor_device: str | None = None, autocast: Autocast = "none",
    ) -> None:  # fmt: skip
        check_settings(gamma, window, train_positions, batch_size, policy_coefficient, priority_max_share)
        annealing.check(gamma, window, train_positions)
        network = build_network()
        check_parts(network, critic, policy, trace, window)
        resets.check(network)
        self.mixture = getattr(trace, "mixture", None)
        self.joins_steps = joins_steps(policy, trace, train_positions)
        self.network = network.to(device)
        self.target_network = copy.deepcopy(self.network).requires_grad_(False)
        self.critic, self.policy, self.trace = critic.to(device), policy.to(device), trace
        self.gamma, self.window, self.train_positions, self.batch_size = gamma, window, train_positions, batch_size
        self.policy_coefficient, self.priority_max_share = policy_coefficient, priority_max_share
        self.target, self.optimizer_config, self.device = target, optimizer, torch.device(device)
        self.resets, self.annealing, self.build_network = resets, annealing, build_network
        self._online = [parameter.data for parameter in self.network.parameters()]
        self._followers: list[Tensor] = list(self.target_network.parameters())
        self.parameters = [*self.network.parameters(), *self.policy.parameters()]
        self.optimizer = adamw([self.network, self.policy], optimizer)
        self.acting = Acting(self.critic, self.policy, self.device, torch.device(actor_device or device), autocast)
        self.autocast, self.forward = autocast, partial(forward, autocast=autocast)
        self._buffer = torch.empty(0, device=self.device)
        self.whole_update: WholeUpdate | None = None  # draws, updates and prioritizes in one, see `compile_or_record`
        self.updates = 0

    # ------------------------------------------------------------------------------------------ acting

    @property
    def acting_network(self) -> Network:
        """The network whose values actors follow."""
        return self.target_network if self.target.acts else self.network

    def values(self, obs: Tensor, network: Network | None = None) -> tuple[Tensor, Tensor]:
        """Answer Q(s, .) and pi(.|s), both [E, A] on the CPU, for observations [E, *obs_shape].

        By the network that acts, or by a copy of it that was published to an actor.
        """
        return self.acting.values(obs, network or self.acting.on_device(self.acting_network, self.updates))

    # ---------------------------------------------------------------------------------------- learning

    def update(self, batch: Batch, measure: bool = False) -> Update:
        """Take one optimizer step on a batch of windows; `measure` adds the health metrics."""
        if self.device.type != "cpu":
            batch = batch.apply(partial(upload, device=self.device))
        update = self.learn_from(batch, self.next_terms(), measure)
        self.reset_where_due()
        return update

    def next_terms(self) -> Terms:
        """Count one more update; return its terms."""
        gamma, window = self.horizon()
        self.updates += 1
        return Terms(self.updates, gamma, window, self.updates % self.target.period_updates == 0)

    def learn_from(self, batch: Batch, terms: Terms, measure: bool) -> Update:
        """Take the optimizer step of `update`: work of the device alone, which depends on nothing but its arguments.

        Inside, tensors are time-major ([n+1, B, ...]), so that the trained positions are a prefix.
        """
        if terms.window < self.window:
            batch = batch.shortened(terms.window)
        windows, discount = batch, discounts(batch, terms.gamma)
        if self.joins_steps:
            batch, discount = join_batch(batch, discount)
        obs = self._floats(batch.obs.transpose(0, 1).flatten(0, 1))  # [(n+1) B, *obs_shape]
        rows = self.train_positions * len(batch)  # M trained rows
        output = self.forward(self.network, obs[:rows])
        inputs, targets, critic_targets = self._targets(batch, obs, output, discount)

        trained = self._trained
        action, returns, valid = trained(batch.action), trained(targets.returns), trained(batch.valid)
        share = valid / valid.sum()
        chosen = action.view(1, -1, 1, 1).expand(len(output.q_logits), -1, 1, output.q_logits.shape[-1])
        taken = output.q_logits.gather(2, chosen).squeeze(2)  # [H, M, K]
        critic_loss = self.critic.loss(taken, trained(critic_targets)).sum(0)
        policy_loss, metrics = self.policy.loss(
            PolicyInputs(
                logits=output.policy_logits, pi=trained(inputs.pi), q_values=trained(inputs.q_values), action=action,
                log_mu=trained(inputs.log_mu), returns=returns, advantage=trained(targets.advantage), share=share,
            ), measure,
        )  # fmt: skip
        scale = (batch.replay_weight * share.view(self.train_positions, -1)).flatten()
        loss = scale @ (critic_loss + self.policy_coefficient * policy_loss)

        with torch.no_grad():
            reachable = self.critic.clamp(returns)
            td_error = (reachable - self.critic.value(taken).mean(0)).abs() * valid
            priority = self._priority(td_error.view(self.train_positions, -1), valid.view(self.train_positions, -1))
            if measure:
                metrics |= self._health(windows, inputs, targets, terms) | {
                    "loss": loss, "critic_loss": scale @ critic_loss, "policy_loss": scale @ policy_loss,
                    "td_error_abs_mean": td_error @ share,
                    "outside_support_share": (reachable != returns).to(share.dtype) @ share,
                }  # fmt: skip
                if self.policy.learned:
                    metrics["online_policy_entropy"] = entropy(output.policy_logits.log_softmax(-1)) @ share
            sound = loss + priority.sum()
        gradient_norm, finite = self._step(loss, share, sound, terms.follow)
        if measure:
            metrics["gradient_norm"] = gradient_norm
        metrics = {name: number.detach() for name, number in metrics.items()} if measure else {}
        return Update(priority, metrics, finite)

    def horizon(self) -> tuple[float, int]:
        """Return gamma and the transitions that are used of each window, as of now: constants, unless annealed."""
        return self.annealing(self.gamma, self.window, self.resets.since(self.updates))

    def reset_where_due(self) -> None:
        """Draw parts of the networks anew after the updates that are to be followed by that."""
        if self.resets.due(self.updates):
            reset(self.network, self.build_network(), self.resets.keep, self.optimizer)
            reset(self.target_network, self.build_network(), self.resets.keep)

    def _floats(self, obs: Tensor) -> Tensor:
        """Convert observations once for both networks, into memory that is kept: fresh pages cost more than it.

        Where networks compute in bfloat16 bytes become that, which holds each of them exactly.
        """
        dtype = torch.bfloat16 if self.autocast == "bfloat16" and obs.dtype == torch.uint8 else torch.float32
        if obs.dtype == dtype:
            return obs
        if self.device.type != "cpu":
            return obs.to(dtype)
        if self._buffer.shape != obs.shape:
            self._buffer = torch.empty_like(obs, dtype=dtype)
        return self._buffer.copy_(obs)

    @torch.no_grad()
    def trace_inputs(self, batch: Batch) -> TraceInputs:
        """Return what the trace would be shown of a batch now, the values of all rows by the target network."""
        gamma, window = self.horizon()
        inputs: TraceInputs = self._whole(batch.to(self.device).shortened(window), gamma)
        return inputs

    def _health(self, windows: Batch, inputs: TraceInputs, targets: TraceTargets, terms: Terms) -> dict[str, Tensor]:
        """Measure windows by what the trace saw and answered, evaluated anew where it did not see all of them.

        It saw less where steps were joined, and of the first row the online network's values where nothing reads them.
        """
        if self.joins_steps or self.policy.reads_rows == "next":
            inputs = self._whole(windows, terms.gamma)
            targets = self.trace(inputs)
        return health(windows, inputs, targets, terms.updates)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _whole(self, batch: Batch, gamma: float | Tensor) -> TraceInputs:
        """Evaluate every row of windows, for people.

        What networks and critics draw for it on the CPU is drawn aside: measuring is not to change a run.
        """
        with torch.random.fork_rng(devices=[]):
            obs = batch.obs.transpose(0, 1).flatten(0, 1).float()
            return self._evaluate(batch, obs, None, discounts(batch, gamma))[0]

    @torch.no_grad()
    def _targets(
        self, batch: Batch, obs: Tensor, online: NetworkOutput, discount: Tensor
    ) -> tuple[TraceInputs, TraceTargets, Tensor]:
        """Evaluate the window's observations and trace the returns; see `_evaluate` for `online`.

        The third answer is what the critic makes of the returns, [B, n, ...].
        """
        inputs, output = self._evaluate(batch, obs, online, discount)
        traced = self.trace(inputs)
        logits = output.q_logits.unflatten(1, (-1, len(batch))).transpose(1, 2)
        return inputs, traced, self.critic.targets(inputs, traced, logits, self.mixture)

    def _evaluate(
        self, batch: Batch, obs: Tensor, online: NetworkOutput | None, discount: Tensor
    ) -> tuple[TraceInputs, NetworkOutput]:
        """Evaluate the target network on the window's observations; return what the trace sees, and its output.

        `online` is the online network's output for the first rows of `obs`, where that is known. No return depends on
        the values of the row it starts from: where the policy does not read them either, those of the window's first
        row are then `online`'s, and the target network is spared a row.
        """
        shape = (batch.action.shape[1] + 1, len(batch), -1)
        spared = len(batch) if self.policy.reads_rows == "next" else 0
        output = self._complete(online, self.target_network, obs, spared)
        q_values = self.critic.join(self.critic.value(output.q_logits))
        if self.policy.double:
            own = self._complete(online, self.network, obs, self.train_positions * len(batch))
            pi = self.policy.probs(self.critic.value(own.q_logits).mean(0), own.policy_logits)
        else:
            pi = self.policy.probs(q_values, output.policy_logits)
        inputs = TraceInputs.of(
            q_values=q_values.view(shape).transpose(0, 1), pi=pi.view(shape).transpose(0, 1), action=batch.action,
            reward=batch.reward, discount=discount, log_mu=batch.behavior_log_prob, valid_next=batch.valid_next,
        )  # fmt: skip
        return self.policy.regularise(inputs), output

    def _complete(self, known: NetworkOutput | None, network: Network, obs: Tensor, rows: int) -> NetworkOutput:
        """Return a network's output for all of `obs`, where its first `rows` are to be those of `known`, if any."""
        if known is None or rows == 0:
            return self.forward(network, obs)
        rest = self.forward(network, obs[rows:])
        return NetworkOutput(
            q_logits=torch.cat([known.q_logits[:, :rows], rest.q_logits], 1),
            policy_logits=torch.cat([known.policy_logits[:rows], rest.policy_logits]),
        )

    def _step(self, loss: Tensor, share: Tensor, sound: Tensor, follow: bool) -> tuple[Tensor, Tensor]:
        """Descend a loss that is the mean of rows weighted by `share` [M], where it and `sound` (0-dim) are finite.

        Return the gradient's norm and whether all was finite: if not, parameters and optimizer stay as they were.
        """
        for parameter in self.parameters:
            parameter.grad = None
        sound = backward(loss, share, sound, self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.optimizer_config.max_gradient_norm)
        finite = (sound + norm).isfinite()
        self._descend(finite)
        if follow:
            torch._foreach_lerp_(self._followers, self._online, self.target.rate)
        return norm, finite

    def _descend(self, finite: Tensor) -> None:
        """Take the optimizer's step where all is finite (0-dim bool), without waiting for a device to know."""
        if getattr(self.optimizer, "_step_supports_amp_scaling", False):
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as a GradScaler leaves steps out
        elif finite.is_cpu and not torch.compiler.is_compiling():  # another optimizer, without found_inf
            if not finite:
                return
        else:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad = torch.where(finite, parameter.grad, 0.0)
        self.optimizer.step()

    def _priority(self, td_error: Tensor, valid: Tensor) -> Tensor:
        """Join a window's |td errors| [P, B] to one priority [B]."""
        if self.train_positions == 1:
            return td_error[0]
        mean = td_error.sum(0) / valid.sum(0)
        return mean.lerp(td_error.amax(0), self.priority_max_share)

    def _trained(self, values: Tensor) -> Tensor:
        """Keep the trained positions of [B, n, ...], time-major as the rows of `obs`: [M, ...]."""
        return values[:, : self.train_positions].transpose(0, 1).flatten(0, 1)

    # ------------------------------------------------------------------------------------------- state

    def state_dict(self) -> StateDict:
        """Everything that learning changes."""
        return {
            "network": self.network.state_dict(), "target_network": self.target_network.state_dict(),
            "critic": self.critic.state_dict(), "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(), "updates": self.updates,
        }  # fmt: skip

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from where `state_dict` was taken."""
        for name in ("network", "target_network", "critic", "policy"):
            getattr(self, name).load_state_dict(state[name])
        load_adamw(self.optimizer, state["optimizer"])
        self.updates = state["updates"]
        self.acting.invalidate()
        if self.whole_update is not None:
            self.whole_update.invalidate()
