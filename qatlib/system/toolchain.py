"""The machine's C and C++ compilers, and shared libraries made with them, cached by content."""

import ctypes
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from qatlib.system import paths

BUILD_TIMEOUT = 2400  # seconds; synthesis of the largest configuration takes minutes, many on a busy machine
VECTORS = {
    "AVX-512": "__AVX512F__",
    "AVX2": "__AVX2__",
    "SSE2": "__SSE2__",
    "NEON": "__ARM_NEON",
}  # name: the compiler's macro


class BuildError(RuntimeError):
    """A tool that is missing, or that failed; the message holds the end of what it said."""


def run(command, **options):
    """A tool, with a timeout. BuildError with the end of its output where it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BUILD_TIMEOUT, **options
        )
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{Path(command[0]).name} took more than {BUILD_TIMEOUT} s") from None
    if done.returncode:
        raise BuildError(f"{Path(command[0]).name} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def compiler(suffix=".cpp"):
    """The compiler of .c or .cpp files as a command: $CC or $CXX, gcc, clang, or the one in PyPI's ziglang. BuildError
    where none is."""
    variable, names, zig = {".c": ("CC", ("gcc", "clang"), "cc"), ".cpp": ("CXX", ("g++", "clang++"), "c++")}[suffix]
    if os.environ.get(variable):
        return shlex.split(os.environ[variable])
    found = next((c for c in names if shutil.which(c)), None)
    if found:
        return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", zig]
    raise BuildError(
        f"no compiler of {suffix} files on {platform.node()}: install {' or '.join(names)}, or pip install ziglang"
    )


@lru_cache
def version(*command):
    """All that a tool says to --version."""
    return run([*command, "--version"])


def target(suffix=".cpp"):
    """The compiler's option for this machine's processor, or for that of $QATLIB_MARCH, as in x86-64-v3."""
    name = os.environ.get("QATLIB_MARCH", "native")
    return f"-march={name.replace('-', '_') if 'ziglang' in compiler(suffix) else name}"


def described(suffix=".cpp"):
    """Compiler and target in words: the first line of its --version, the option, and the vectors that the code may
    use."""
    macros = run([*compiler(suffix), target(suffix), "-dM", "-E", "-x", "c", os.devnull])
    vectors = next((name for name, macro in VECTORS.items() if f"#define {macro} " in macros), "no vectors known")
    return f"{version(*compiler(suffix)).splitlines()[0]}, {target(suffix)} ({vectors})"


def library(source, *options):
    """The shared library of one C or C++ file for this machine's processor, built where it is not yet there. BuildError
    where it cannot be.

    It is kept by compiler, options, processor, and every byte that the compiler reads, headers included.
    """
    tool = compiler(source.suffix)
    command = [*tool, target(source.suffix), *options]
    read = run([*command, "-E", "-P", str(source)])
    features = re.search(
        r"^(flags|Features)\s*:.*", Path("/proc/cpuinfo").read_text(), re.MULTILINE
    )  # -march=native: not another's
    name = f"{source.stem}-{digest(command, version(*tool), read, platform.machine(), features and features[0])}.so"
    return load(
        built(paths.BUILD / "native" / name, lambda to: run([*command, "-shared", "-fPIC", str(source), "-o", str(to)]))
    )


def digest(*parts):
    """What a file made from these is named after."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def built(path, build):
    """The file at `path`, made by build(path to write) where it is missing or not as it was made: behind what a loader
    reads, it ends in the SHA-256 of all before."""
    if not _whole(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as folder:
            scratch = Path(folder) / path.name
            build(scratch)
            scratch.write_bytes((made := scratch.read_bytes()) + hashlib.sha256(made).digest())
            scratch.replace(path)
    return path


def _whole(path):
    content = path.read_bytes() if path.is_file() else b""
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


def load(path):
    """A shared library, by ctypes. BuildError where this machine cannot load it."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"{path} does not load: {error}") from None
