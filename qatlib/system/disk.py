"""Files and folders that appear whole or not at all, also where the power fails, and locks that end with their holder.

What is written goes to a scratch name beside its place, to the disk, and then to its name; after a power cut a folder
holds what it held before or after, and perhaps scratch, which `clear` removes. https://lwn.net/Articles/457667 says why
each of the steps is needed.
"""

import fcntl
import os
import platform
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"  # in the folder that it is the lock of
WAIT = 60  # seconds for another writer, which needs milliseconds
SHORTEST = 0.01  # seconds between two tries


def sync(path):
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def scratch(path):
    """A name beside a path that is nobody else's, and that `clear` knows."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def clear(folder):
    """Remove the scratch of writers that died. Only for who holds the folder's lock: no other writer is alive then."""
    for left in Path(folder).glob(".*.part"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def make(folder):
    """Make a folder, and its parents, where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def write(path, content):
    """Write bytes to a file, in place of what it held."""
    path = Path(path)
    place = scratch(path)
    try:
        _new(place, content)
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)
    sync(path.parent)


def put(folder, files):
    """A new folder with these files ({name: bytes}). OSError where it is there already, and not empty."""
    folder = Path(folder)
    place = scratch(folder)
    place.mkdir()
    try:
        for name, content in files.items():
            _new(place / name, content)
        sync(place)
        place.replace(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sync(folder.parent)


def _new(path, content):
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(folder, wait=None):
    """One at a time in a folder, of all processes and threads; the kernel lets go where a holder dies. -> the lock, for
    `sign`.

    TimeoutError names the holder, after `wait` seconds, WAIT where it is None.
    """
    path = Path(folder) / LOCK
    with path.open("ab+", buffering=0) as lock:
        _take(lock, time.monotonic() + (WAIT if wait is None else wait), path)
        sign(lock)
        yield lock


def _take(lock, deadline, path):
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = path.read_text(errors="replace").strip() or "another process"
                raise TimeoutError(f"{path.parent} is in use by {holder}; wait for its end, or end it") from None
        time.sleep(SHORTEST)


def sign(lock, doing=""):
    """Leave in a lock who holds it, for those that it keeps out."""
    who = f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    with suppress(OSError):  # of a full disk: the lock holds without its text
        lock.truncate(0)
        lock.write(f"{who}{doing and f', {doing}'}".encode(errors="replace"))
