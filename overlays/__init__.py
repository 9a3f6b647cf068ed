"""The hardware, its models and, on a board, its bitstreams (pyproject.toml calls this folder qatlib.overlays); nothing to import."""
