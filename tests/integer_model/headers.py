"""Model files taken apart and put together, and what it costs to read them."""

import json
import tracemalloc
from contextlib import contextmanager

from qatlib.integer_model import artifact


def parts(path):
    """(header as a dictionary, bytes of the arrays)"""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def joined(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + data


@contextmanager
def little_memory():
    """At most 1 MiB allocated within."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def announcing(shape, dtype="U8", offsets=(0, 0), **metadata):
    """A file of ours, as far as its header goes, that announces one array."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}
    return joined({"__metadata__": {"format": "qatlib", "version": str(artifact.VERSION), **metadata}, "a": entry})
