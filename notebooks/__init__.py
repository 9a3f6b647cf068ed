"""Notebooks that `pynq get-notebooks` delivers (pyproject.toml calls this folder qatlib.notebooks); nothing to
import."""
