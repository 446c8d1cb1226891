"""How replays keep rows: rings of streams, windows of them, and sums of priorities."""
