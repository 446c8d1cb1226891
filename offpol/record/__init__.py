"""What stays of a run: logs, checkpoints, its folder, and reading them again."""
