"""The live model: shipped models as WebAssembly in one page of plain JavaScript, for the site and for a notebook."""

from qatlib.live.page import block, write

__all__ = ["block", "write"]
