"""Reading and writing of model files: the safetensors format, in numpy alone, since a board has no library for it.

Layout (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header, then the arrays end to end.
Our own part is a versioned JSON document in the header's metadata, and a SHA-256 over document, array table and arrays.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from qatlib.disk import write as write

VERSION = 1
HEADER_LIMIT = 1 << 20  # a header of more than 1 MiB is not ours
FILE_LIMIT = 1 << 26  # nor is a model of more than 64 MiB
DTYPES = {"U8": np.uint8, "U16": np.uint16, "I32": np.int32, "U32": np.uint32}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


class ArtifactError(ValueError):
    """A model file that is damaged, foreign or newer than this qatlib."""


def _checksum(document, table, data):
    return hashlib.sha256(json.dumps([document, table], sort_keys=True).encode() + data).hexdigest()


def encode(document, arrays):
    """A JSON-able document and its arrays ({name: uint8, uint16, int32 or uint32 array}) as the bytes of a file."""
    table, parts, offset = {}, [], 0
    for name, array in sorted(arrays.items()):
        raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        table[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, offset + len(raw)]}
        parts.append(raw)
        offset += len(raw)
    data = b"".join(parts)
    metadata = {"format": "qatlib", "version": str(VERSION), "model": json.dumps(document, sort_keys=True)}
    metadata["sha256"] = _checksum(metadata["model"], table, data)
    header = json.dumps({"__metadata__": metadata, **table}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def read(path):
    """-> (document, {name: array}). Raises ArtifactError, naming the file and what is wrong with it."""
    try:
        return _read(Path(path))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _read(path):
    if path.stat().st_size > FILE_LIMIT:
        raise ArtifactError(f"{path.stat().st_size} bytes are more than a model has; is this a model file?")
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > HEADER_LIMIT:
        raise ArtifactError("not a safetensors file; give one written by IntegerModel.save")
    if len(raw) < 8 + length:
        raise ArtifactError(f"truncated: the header takes {length} bytes, {len(raw) - 8} are there; copy the file again")
    try:
        table = json.loads(raw[8 : 8 + length])
    except (ValueError, RecursionError):
        raise ArtifactError("the header is not JSON: the file is damaged or not a safetensors file") from None
    metadata = table.pop("__metadata__", None) if isinstance(table, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != "qatlib":
        raise ArtifactError("a safetensors file, but not one of qatlib; give one written by IntegerModel.save")
    if metadata.get("version") != str(VERSION):
        raise ArtifactError(f"version {metadata.get('version')}, this qatlib reads version {VERSION}; update qatlib or export again")
    data = memoryview(raw)[8 + length :]
    end = max([0] + [_end(name, entry) for name, entry in table.items()])
    if len(data) != end:
        raise ArtifactError(f"truncated or extended: {end} bytes of arrays announced, {len(data)} there; copy the file again")
    if metadata.get("sha256") != _checksum(metadata.get("model"), table, data):
        raise ArtifactError("the checksum does not match: the file is damaged; copy or export it again")
    arrays = {}
    for name, entry in table.items():
        start, stop = entry["data_offsets"]
        dtype = np.dtype(DTYPES[entry["dtype"]]).newbyteorder("<")
        arrays[name] = np.frombuffer(data[start:stop], dtype).reshape(entry["shape"]).astype(DTYPES[entry["dtype"]])
    try:
        return json.loads(metadata["model"]), arrays
    except ValueError:
        raise ArtifactError("its model document is not JSON; export it again") from None


def _end(name, entry):
    """Where an array ends, its dtype, shape and place checked."""
    try:
        start, stop = entry["data_offsets"]
        shape, size = list(entry["shape"]), np.dtype(DTYPES[entry["dtype"]]).itemsize
        whole = len(shape) < 8 and all(type(v) is int and 0 <= v <= FILE_LIMIT for v in [start, stop, *shape])
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(f"array {name!r} has no valid dtype, shape and place; the file is damaged") from None
    if not whole or stop - start != size * math.prod(shape):
        raise ArtifactError(f"array {name!r} of shape {shape} does not fit bytes {start} to {stop}; the file is damaged")
    return stop
