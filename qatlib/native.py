"""The machine's C and C++ compilers, and shared libraries made with it, cached by content."""

import ctypes
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from qatlib import paths

BUILD_TIMEOUT = 2400  # seconds; synthesis of the largest configuration takes minutes, many on a busy machine


class BuildError(RuntimeError):
    """A tool that is missing, or that failed; the message holds the end of what it said."""


def run(command, **options):
    """A tool, with a timeout. BuildError with the end of its output where it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BUILD_TIMEOUT, **options)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{Path(command[0]).name} took more than {BUILD_TIMEOUT} s") from None
    if done.returncode:
        raise BuildError(f"{Path(command[0]).name} failed:\n{done.stdout[-3000:]}")
    return done.stdout


@lru_cache
def compiler(suffix=".cpp"):
    """The compiler of .c or .cpp files as a command: $CC or $CXX, clang, gcc, or the one in PyPI's ziglang. BuildError where none is."""
    variable, names, zig = {".c": ("CC", ("clang", "gcc"), "cc"), ".cpp": ("CXX", ("clang++", "g++"), "c++")}[suffix]
    if os.environ.get(variable):
        return os.environ[variable].split()
    found = next((c for c in names if shutil.which(c)), None)
    if found:
        return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", zig]
    raise BuildError(f"no compiler of {suffix} files on {platform.node()}: install {' or '.join(names)}, or pip install ziglang")


def described(suffix=".cpp"):
    """What that compiler calls itself: the first line of its --version."""
    return run([*compiler(suffix), "--version"]).splitlines()[0]


def library(source, *options):
    """The shared library of one C or C++ file for this machine's processor, built where it is not yet there."""
    command = [*compiler(source.suffix), *options, "-shared", "-fPIC"]
    features = re.search(r"^(flags|Features)\s*:.*", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    machine = platform.machine(), features and features[0]  # -march=native: not another machine's library
    key = hashlib.sha256(repr((command, source.read_text(), machine)).encode()).hexdigest()[:16]
    path = paths.BUILD / "native" / f"{source.stem}-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as folder:
            scratch = Path(folder) / path.name
            run([*command, str(source), "-o", str(scratch)])
            scratch.replace(path)
    return ctypes.CDLL(str(path))
