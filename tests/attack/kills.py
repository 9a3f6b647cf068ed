"""`kill -9` at random moments of a quick `make figures` from nothing, over its whole length; each time it is started
again and goes on.

Killed is everything at once, or only the process that carries the notebooks out, the kernel of one, or a worker of
that. In the end every number in every figure and table must be that of an undisturbed run, but for those that are
measured in time, and the next start must find nothing left to do.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from qatlib.system import paths
from tests.attack.outcome import Outcome

SEED = 9
SHORT = ("01_", "02_")  # notebooks of the short form
TIMED = ["train_seconds", "python_us"]  # columns
TIMED_WHERE_MEASURED = ["latency_us", "energy_uj"]  # what follows from the time that a forecast takes on this computer
VICTIMS = ("everything", "everything", "pipeline", "kernel", "worker")
PATIENCE = 300  # seconds over the three times that an undisturbed run takes
UNCHANGED = re.compile(r"^\[\d+/\d+ (\S+)\] unchanged", re.MULTILINE)


class Tree:
    """Build and figures folders of their own, and what runs there."""

    def __init__(self, folder, notebooks):
        self.folder, self.notebooks, self.process = folder, notebooks, None
        own = {
            "QATLIB_BUILD": folder / "build",
            "QATLIB_FIGURES": folder / "figures",
            "PROFILE": "quick",
            "DATA": "jfk-weather",
        }
        self.environment = {
            k: v
            for k, v in os.environ.items()
            if k not in ("TARGET", "INPUTS", "CLEAN", "CONTEXT", "HORIZON", "SCHEDULER", "STORAGE")
        }
        self.environment |= {name: str(value) for name, value in own.items()}
        folder.mkdir()

    def start(self):
        """What `make figures` starts."""
        with (self.folder / "log").open("a") as log:
            command = [sys.executable, "-m", "qatlib.make.figures", *self.notebooks]
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": paths.ROOT}
            self.process = subprocess.Popen(command, env=self.environment, start_new_session=True, **options)

    def ended(self, seconds):
        """Its exit status, if it ends in that time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def alive(self):
        """Every process of this tree, also those that are nobody's children any more."""
        return [
            process
            for process in psutil.process_iter()
            if _environment(process).get("QATLIB_BUILD") == self.environment["QATLIB_BUILD"]
        ]

    def kill_all(self):
        for process in self.alive():
            _kill(process)

    def kill(self, victim, rng):
        """SIGKILL. -> who it was: the victim where there is one, else everything."""
        kernels = [
            p for p in psutil.Process(self.process.pid).children() if "ipykernel_launcher" in " ".join(_command(p))
        ]
        workers = [p for kernel in kernels for p in kernel.children() if "spawn_main" in " ".join(_command(p))]
        chosen = {
            "pipeline": [psutil.Process(self.process.pid)],
            "kernel": kernels[:1],
            "worker": rng.sample(workers, min(1, len(workers))),
        }
        found = chosen.get(victim)
        for process in found or self.alive():
            _kill(process)
        return victim if found else "everything"

    def frames(self):
        """{name: what it says that is not measured in time} of every CSV."""
        root = self.folder / "figures"
        return {str(path.relative_to(root)): timeless(pd.read_csv(path)) for path in sorted(root.rglob("*.csv"))}


def _environment(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill(process):
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass


def timeless(frame):
    if "latency_evidence" in frame:
        frame.loc[frame["latency_evidence"] == "measured", frame.columns.intersection(TIMED_WHERE_MEASURED)] = 0
    return frame.drop(columns=TIMED, errors="ignore")


def disturbed(tree, length, kills, rng):
    """Carry a tree through so many kills to its end. -> who was killed; AssertionError where it does not end well."""
    killed, begun = [], time.monotonic()
    tree.start()
    while len(killed) < kills and tree.ended(rng.uniform(0, 2 * length / (kills + 1))) is None:
        killed.append(tree.kill(rng.choice(VICTIMS), rng))
        print(f"killed after {time.monotonic() - begun:.0f} s: {killed[-1]}", flush=True)
        if killed[-1] != "worker":
            assert tree.ended(60) is not None, "it does not end with its kernel"
            tree.start()
    status = tree.ended(3 * length + PATIENCE)
    assert status == 0, f"it ends with {status}"
    return killed


def fault_of(tree, expected):
    """What is wrong with a tree that was carried to its end, or None."""
    found = tree.frames()
    if found.keys() != expected.keys():
        return f"other files: {found.keys() ^ expected.keys()}"
    if different := [name for name, frame in found.items() if not frame.equals(expected[name])]:
        return f"other numbers in {', '.join(different)}"
    if left := list(tree.folder.rglob(".*.part")):
        return f"scratch is left: {left}"
    before = len(tree.log())
    tree.start()
    if tree.ended(PATIENCE) != 0 or len(UNCHANGED.findall(tree.log()[before:])) != len(tree.notebooks):
        return "the next start finds something to do"
    return None


def attack(short):
    notebooks = [
        path for path in sorted(paths.NOTEBOOKS.glob("[0-9]*.ipynb")) if not short or path.name.startswith(SHORT)
    ]
    runs, kills = (1, 2) if short else (4, 5)
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="qatlib-kills-", ignore_cleanup_errors=True) as folder:
        reference = Tree(Path(folder) / "undisturbed", notebooks)
        begun = time.monotonic()
        try:
            reference.start()
            assert reference.ended(3600) == 0, reference.log()[-3000:]
        finally:
            reference.kill_all()
        length, expected = time.monotonic() - begun, reference.frames()
        print(f"an undisturbed run: {length:.0f} s, {len(expected)} CSVs", flush=True)
        for number in range(runs):
            yield of_run(Tree(Path(folder) / str(number), notebooks), length, kills, rng, expected)


def of_run(tree, length, kills, rng, expected):
    begun, killed = time.monotonic(), []
    try:
        killed = disturbed(tree, length, kills, rng)
        fault = fault_of(tree, expected)
    except AssertionError as error:
        fault = str(error)
    finally:
        tree.kill_all()
    if fault:
        print(f"WRONG: {tree.folder.name}: {fault}\n{tree.log()[-3000:]}", flush=True)
    what = f"a quick run of {len(tree.notebooks)} notebooks, killed and started again"
    who = ", ".join(f"{killed.count(v)} {v}" for v in dict.fromkeys(VICTIMS) if v in killed)
    note = f"killed: {who}; {time.monotonic() - begun:.0f} s against {length:.0f} s undisturbed; seed {SEED}"
    tried = max(1, len(killed))
    return Outcome("kills", what, tried, 0, 0 if fault else tried, tried if fault else 0, note)
