"""Keys of a config by what they change: how, how often or for how long is computed, but not what is learned."""

# Where and how it is computed: changes no more than rounding, and some of it not even that.
ROUNDING = frozenset({"run.torch_threads", "run.device", "run.actor_device", "run.compile", "run.cuda_graph"})
MACHINE = ROUNDING | {"replay.storage", "replay.directory", "topology.deadline_s"}
# What does the same on a device: draws the same windows but for rounding, from the same seed.
ON_DEVICE = {"offpol.replay.on_device.OnDevice": "offpol.replay.prioritized.Prioritized"}
CADENCES = frozenset({
    "run.log_every_agent_steps", "run.measure_every_updates", "run.checkpoint_every_agent_steps",
    "run.keep_checkpoints", "run.eval_num_envs",
})  # fmt: skip
BUDGET = frozenset({"run.agent_steps", "run.eval_episodes", "run.eval_epsilon"})
EVALUATED = frozenset({"run.eval_episodes", "run.eval_epsilon", "run.eval_over"})  # what scores depend on
GAME = frozenset({"env.game", "env.id"})

# Runs that differ by these alone differ by chance.
INCIDENTAL = MACHINE | CADENCES | {"seed", "env.num_threads", "env.anchor_agent_steps", "env.render"}
# What may change when a run goes on; stored rows may have been moved, and have to be the same ones.
RESUMABLE = MACHINE | CADENCES | BUDGET | EVALUATED | {"replay.offline"}
