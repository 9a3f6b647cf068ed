"""Reading and writing of model files: the safetensors format, in numpy alone, since a board has no library for it.

Layout (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header, then the arrays
end to end. Our own part is a versioned JSON document in the header's metadata, and a SHA-256 over document, array table
and arrays.
"""

import hashlib
import json
import math
import os
import stat

import numpy as np

VERSION = 2  # 1 knew one channel alone
HEADER_LIMIT = 1 << 20  # a header of more than 1 MiB is not ours
FILE_LIMIT = (
    1 << 22
)  # nor is a model of more than 4 MiB, of which computing takes some 30 times as much where weights have 2 bits
DTYPES = {"U8": np.uint8, "U16": np.uint16, "I32": np.int32, "U32": np.uint32}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


class ArtifactError(ValueError):
    """A model file that is damaged, foreign or newer than this qatlib."""


def _checksum(document, table, data):
    digest = hashlib.sha256(json.dumps([document, table], sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


def encode(document, arrays):
    """A JSON-able document and its arrays ({name: uint8, uint16, int32 or uint32 array}) as the bytes of a file."""
    table, parts, offset = {}, [], 0
    for name, array in sorted(arrays.items()):
        raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        table[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
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
        return _decode(read_bytes(path, FILE_LIMIT))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def read_bytes(path, limit):
    """The content of a regular file of at most so many bytes; of nothing else is a byte read. ArtifactError,
    OSError."""
    with open(
        path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
    ) as file:  # a pipe does not wait
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ArtifactError("no regular file; give one written by IntegerModel.save")
        if facts.st_size > limit:
            raise ArtifactError(f"{facts.st_size} bytes are more than a model has ({limit}); is this a model file?")
        return file.read(facts.st_size)


def parse_json(text):
    """What a JSON text says, where it says it once, in numbers that every reader reads alike. ValueError"""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(text):
    raise ValueError(f"{text} is no number")


def _decode(raw):
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > HEADER_LIMIT:
        raise ArtifactError("not a safetensors file; give one written by IntegerModel.save")
    if len(raw) < 8 + length:
        raise ArtifactError(
            f"truncated: the header takes {length} bytes, {len(raw) - 8} are there; copy the file again"
        )
    try:
        table = parse_json(raw[8 : 8 + length].decode())
    except ValueError:  # of the text's encoding, too
        raise ArtifactError("the header is not JSON: the file is damaged or not a safetensors file") from None
    metadata = table.pop("__metadata__", None) if isinstance(table, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != "qatlib":
        raise ArtifactError("a safetensors file, but not one of qatlib; give one written by IntegerModel.save")
    if metadata.get("version") != str(VERSION):
        raise ArtifactError(
            f"version {metadata.get('version')!r:.20}, this qatlib reads version {VERSION}; update qatlib, or export "
            f"the model again"
        )
    data = memoryview(raw)[8 + length :]
    _check_places(table, len(data))
    if not isinstance(metadata.get("model"), str) or metadata.get("sha256") != _checksum(
        metadata["model"], table, data
    ):
        raise ArtifactError("the checksum does not match: the file is damaged; copy or export it again")
    try:
        document = parse_json(metadata["model"])
    except ValueError as error:
        raise ArtifactError(f"its model document is not JSON ({error}); export it again") from None
    return document, {name: _array(entry, data) for name, entry in table.items()}


def _array(entry, data):
    start, stop = entry["data_offsets"]
    dtype = np.dtype(DTYPES[entry["dtype"]]).newbyteorder("<")
    return np.frombuffer(data[start:stop], dtype).reshape(entry["shape"]).astype(DTYPES[entry["dtype"]])


def _check_places(table, size):
    """The arrays lie end to end: no byte of the data belongs to two of them, or to none."""
    end = 0
    for (start, stop), name in sorted((_place(name, entry), name) for name, entry in table.items()):
        if start != end:
            raise ArtifactError(
                f"array {name!r:.100} begins at byte {start}, the one before it ends at {end}; the file is damaged"
            )
        end = stop
    if end != size:
        raise ArtifactError(
            f"truncated or extended: {end} bytes of arrays announced, {size} there; copy the file again"
        )


def _place(name, entry):
    """(start, stop) of an array, its dtype and shape checked."""
    try:
        start, stop = entry["data_offsets"]
        shape, size = entry["shape"], np.dtype(DTYPES[entry["dtype"]]).itemsize
        whole = (
            isinstance(shape, list)
            and len(shape) < 8
            and all(type(v) is int and 0 <= v <= FILE_LIMIT for v in [start, stop, *shape])
        )
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(f"array {name!r:.100} has no valid dtype, shape and place; the file is damaged") from None
    if not whole or stop - start != size * math.prod(shape):
        what = f"of shape {shape} does not fit bytes {start} to {stop}"
        raise ArtifactError(f"array {name!r:.100} {what[:200]}; the file is damaged")
    return start, stop
