"""The command line: what was asked for, and every mistake in one sentence."""
