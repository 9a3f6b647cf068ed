"""The two profiles that a notebook runs in, and their seeds."""

SEEDS = {"quick": range(1), "full": range(5)}
