"""The three files of an overlay that belong together: engine.bit, its metadata engine.hwh, and engine.sha256, which says so."""

import hashlib

from qatlib.engine import hwh

BIT, HWH, SHA256 = (f"{hwh.NAME}.{suffix}" for suffix in ("bit", "hwh", "sha256"))


def record(folder):
    """Write engine.sha256 for the .bit and .hwh in a folder, as `sha256sum` does."""
    (folder / SHA256).write_text("".join(f"{_digest(folder / name)}  {name}\n" for name in (BIT, HWH)))


def check(folder):
    """ValueError unless the .bit and .hwh in a folder are those recorded together; FileNotFoundError names the one that is missing."""
    for name in (BIT, HWH, SHA256):
        if not (folder / name).is_file():
            how = f"make it where Vivado is, with `make overlay BOARD={folder.name}`, and copy {BIT}, {HWH} and {SHA256} here"
            raise FileNotFoundError(f"{folder / name} is missing; qatlib ships no bitstream: {how}")
    recorded = dict(reversed(line.split()) for line in (folder / SHA256).read_text().splitlines())
    for name in (BIT, HWH):
        if recorded.get(name) != _digest(folder / name):
            raise ValueError(f"{folder / name} is not the file recorded in {SHA256}; copy all three files of one build")


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
