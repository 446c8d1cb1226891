"""`offpol-inspect`: what a checkpoint and its replay tell about learning from old data."""
