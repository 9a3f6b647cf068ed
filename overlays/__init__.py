"""The hardware, its models and, on a board, its bitstreams: qatlib.overlays in pyproject.toml. Nothing to import."""
