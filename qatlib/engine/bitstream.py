"""The three files of an overlay that belong together: engine.bit, its metadata engine.hwh, and engine.sha256, which
says so."""

import hashlib
import re

from qatlib.engine import hwh

BIT, HWH, SHA256 = (f"{hwh.NAME}.{suffix}" for suffix in ("bit", "hwh", "sha256"))
LINE = re.compile(rb"([0-9a-fA-F]{64}) [ *]([!-~]+)")  # of `sha256sum`, in text or binary mode


def record(folder):
    """Write engine.sha256 for the .bit and .hwh in a folder, as `sha256sum` does."""
    (folder / SHA256).write_text("".join(f"{_digest(folder / name)}  {name}\n" for name in (BIT, HWH)))


def check(folder):
    """ValueError unless the .bit and .hwh in a folder are those recorded together, by what `record` or `sha256sum`
    wrote of them; FileNotFoundError names the one that is missing."""
    for name in (BIT, HWH, SHA256):
        if not (folder / name).is_file():
            how = (
                f"make it where Vivado is, with `make overlay BOARD={folder.name}`, and copy {BIT}, {HWH} and "
                f"{SHA256} here"
            )
            raise FileNotFoundError(f"{folder / name} is missing, and ships with no release: {how}")
    recorded = _recorded(folder / SHA256)
    for name in (BIT, HWH):
        if recorded[name] != _digest(folder / name):
            raise ValueError(f"{folder / name} is not the file recorded in {SHA256}; copy all three files of one build")


def _recorded(path):
    """{file: digest} of the .bit and .hwh, each once and nothing else."""
    lines = [LINE.fullmatch(line) for line in path.read_bytes().splitlines()]
    if not all(lines) or sorted(line[2].decode() for line in lines) != sorted((BIT, HWH)):
        raise ValueError(
            f"{path} is damaged: it must be two lines, the SHA-256 of {BIT} and of {HWH}; copy all three files "
            f"of one build"
        )
    return {line[2].decode(): line[1].decode().lower() for line in lines}


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
