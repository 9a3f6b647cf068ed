"""The engine from Python, on a board or simulated behind a pynq device."""

from qatlib.board.overlay import open_engine

__all__ = ["open_engine"]
