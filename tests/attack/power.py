"""Power cuts: after every step of an update of the versions of a device, and of the keeping of a run, in every state
the disk may have.

The steps are those of the operating system: files made, written, synced, renamed and removed, and folders. The model of
the disk is a harsh one: what was not synced may have happened or not, each step by itself, and a file that was not
synced may be empty, cut or whole. Every state is laid out and started from. The version in use is the one before or the
one after, and what comes next works; a run's row is right, or the run is made anew; what had returned before the cut
stays.
"""

import io
import itertools
import os
import random
import shutil
import tempfile
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from unittest import mock

from qatlib.data import sets
from qatlib.device import shipped
from qatlib.device.guard import Guard
from qatlib.device.versions import Versions
from qatlib.float_model.config import ModelConfig
from qatlib.float_model.train import TrainConfig
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached, storage
from qatlib.system import disk, paths
from tests.attack.outcome import Outcome

SEED = 20
MOST = {False: 2000, True: 50}  # states after a step, long and short; of more, a random sample
PAIRS = [
    (shipped.load("jfk-weather", f"patch-c336-d16-{width}"), Guard.fit(shipped.windows("jfk-weather")[0][: n + 1]))
    for n, width in enumerate(("w8a8", "w4a4", "w2a2"))
]


@contextmanager
def recorded(root):
    """The steps that are taken under a folder, in their order: (kind, path, what else belongs to it)."""
    steps, real = [], {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "mkdir", "rmdir")}

    def note(kind, path, more=None):
        if root in Path(path).parents or Path(path) == root:
            steps.append((kind, Path(path), more))

    def fsync(handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_file():
            note("content", path, path.read_bytes())
        real["fsync"](handle)
        note("sync", path)

    def replace(source, target):
        real["replace"](source, target)
        note("move", source, Path(target))

    def change(name, path, *arguments, dir_fd=None):
        real[name](path, *arguments, **({} if dir_fd is None else {"dir_fd": dir_fd}))
        note(name, path if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path))

    def opening(path, mode="r", *arguments, opened=io.open, **options):
        if "x" in mode:
            note("make", path)
        return opened(path, mode, *arguments, **options)

    patches = {"fsync": fsync, "replace": replace} | {
        name: partial(change, name) for name in ("unlink", "mkdir", "rmdir")
    }
    with mock.patch.multiple(os, **patches), mock.patch.object(io, "open", opening):
        yield steps


def found_in(root):
    """{path under a folder: bytes; None: a folder}"""
    return {p: None if p.is_dir() else p.read_bytes() for p in sorted(root.rglob("*")) if p.name != disk.LOCK}


def lay(entries, root):
    """Make a folder hold just that."""
    shutil.rmtree(root)
    root.mkdir()
    for path, content in sorted(entries.items()):
        path.mkdir() if content is None else path.write_bytes(content)


def take(entries, root, kind, path, more):
    """What a disk holds after one more step, if that can be taken there."""
    if kind == "sync" or (path.parent != root and path.parent not in entries):
        return entries
    under = {p for p in entries if path in (p, *p.parents)}
    if kind in ("mkdir", "make"):
        return {path: b"" if kind == "make" else None} | entries
    if kind == "content":
        return entries | ({path: more} if path in entries else {})
    if kind in ("unlink", "rmdir"):  # once a folder's name is gone, so is what it held
        return {p: content for p, content in entries.items() if p not in under}
    if not under or any(more in p.parents for p in entries):  # nothing to move, or onto a folder that is not empty
        return entries
    return {p: c for p, c in entries.items() if p not in under} | {
        more / p.relative_to(path): entries[p] for p in under
    }


def states(before, steps, root, most, rng):
    """All that the disk may hold, or a sample of it, if the power fails after the last of these steps."""
    choices = []
    for i, (kind, path, more) in enumerate(steps):
        synced = {p for k, p, _ in steps[i:] if k == "sync"}
        if kind == "content" and path not in synced:
            choices.append([None, (kind, path, more[: len(more) // 2]), (kind, path, more)])
        elif kind in ("content", "sync") or path.parent in synced:
            choices.append([(kind, path, more)])
        else:
            choices.append([None, (kind, path, more)])
    count = 1
    for choice in choices:
        count *= len(choice)
    every = itertools.product(*choices) if count <= most else ([rng.choice(c) for c in choices] for _ in range(most))
    seen = set()
    for chosen in every:
        entries = before
        for step in filter(None, chosen):
            entries = take(entries, root, *step)
        if (mark := frozenset(entries.items())) not in seen:
            seen.add(mark)
            yield entries


def same(loaded, pair):
    return loaded[1] == pair[1] and loaded[0].to_bytes() == pair[0].to_bytes()


def versions_held(folder, before, after, done):
    """What is wrong with versions that should be as before or as after, and after once it is `done`; None: nothing.
    Both: history and count of versions."""
    versions = Versions(folder)
    there = sorted(int(path.name) for path in folder.glob("[0-9]*"))
    history, count = versions.history, len(there)
    if (history, count) not in ((after,) if done else (before, after)) or there != list(range(1, count + 1)):
        return f"history {history} of {there}"
    if not all(same(versions.load(n), PAIRS[(n - 1) % 3]) for n in there):
        return "a version is another one"
    if history and not same(versions.current(), PAIRS[(history[-1] - 1) % 3]):
        return "another version is in use"
    if (given := versions.add(*PAIRS[count % 3])) != count + 1 or not same(versions.use(given), PAIRS[count % 3]):
        return f"the next version is {given}"
    if history and not same(versions.roll_back(), PAIRS[(history[-1] - 1) % 3]):
        return "the way back leads elsewhere"
    return "scratch is left" if list(folder.glob(".*.part")) else None


def run_held(run, dataset, made, done):
    """The same of a run that should be there whole, or not at all. made: {run: its files}, of it and its parents."""
    calls, files = [], made[run]
    with (
        mock.patch.object(cached, "compute", lambda r, *rest: calls.append(r) or made[r]),
        redirect_stdout(io.StringIO()),
    ):
        kept = storage.kept(run, dataset)
        if kept != files and (kept is not None or done):
            return "another run is believed"
        cached.execute(run, dataset)
    if storage.kept(run, dataset) != files or (run in calls) == (kept == files):
        return "the run was not made anew"
    return "scratch is left" if calls and list(storage.folder(run, dataset).parent.glob(".*.part")) else None


def tried(what, root, prepare, change, held, short):
    """An Outcome: a power cut after each step of `change`, begun on what `prepare` left, judged by `held(done)`."""
    rng, wrong, count = random.Random(SEED), 0, 0
    lay({}, root)
    prepare()
    before = found_in(root)
    with recorded(root) as steps, redirect_stdout(io.StringIO()):
        change()
    for cut in range(len(steps) + 1):
        for entries in states(before, steps[:cut], root, MOST[short], rng):
            lay(entries, root)
            try:
                with mock.patch.object(os, "fsync", lambda handle: None):  # of this disk the power does not fail
                    fault = held(done=cut == len(steps))
            except Exception as error:  # whatever it is, a device that does not start is the finding
                fault = repr(error)
            count += 1
            if fault:
                wrong += 1
                print(f"WRONG: {what}, cut after step {cut} of {[(k, p.name) for k, p, _ in steps]}: {fault}")
                print(
                    "  ".join(f"{p.relative_to(root)} {c if c is None else len(c)}" for p, c in sorted(entries.items()))
                )
    return Outcome("power", what, count, 0, count - wrong, wrong, f"{len(steps)} steps, seed {SEED}")


def attack(short):
    with tempfile.TemporaryDirectory() as folder:
        yield from of_versions(Path(folder).resolve() / "device", short)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(paths, "BUILD", Path(folder).resolve()):
        yield from of_runs(short)


def of_versions(root, short):
    def prepare(used, count):
        versions = Versions(root)
        for n in range(count):
            versions.add(*PAIRS[n % 3])
        for version in used:
            versions.use(version)

    def cut_before():
        """A cut in an earlier update left scratch."""
        prepare([1], 2)
        left = disk.scratch(root / "0003")
        left.mkdir()
        (left / "guard.json").write_bytes(b"{")
        disk.scratch(root / "in_use.json").write_bytes(b"")

    root.mkdir()
    add = lambda n: Versions(root).add(*PAIRS[n])  # noqa: E731
    cases = {
        "the first version is added": (partial(prepare, [], 0), lambda: add(0), ([], 0), ([], 1)),
        "another version is added": (partial(prepare, [1], 2), lambda: add(2), ([1], 2), ([1], 3)),
        "the same over what an earlier cut left": (cut_before, lambda: add(2), ([1], 2), ([1], 3)),
        "the first version is used": (partial(prepare, [], 1), lambda: Versions(root).use(1), ([], 1), ([1], 1)),
        "another version is used": (partial(prepare, [1], 2), lambda: Versions(root).use(2), ([1], 2), ([1, 2], 2)),
        "the same over what that cut left": (cut_before, lambda: Versions(root).use(2), ([1], 2), ([1, 2], 2)),
        "rolled back": (partial(prepare, [1, 2], 2), lambda: Versions(root).roll_back(), ([1, 2], 2), ([1], 2)),
    }
    for what, (prepared, change, before, after) in cases.items():
        yield tried(what, root, prepared, change, partial(versions_held, root, before, after), short)


def of_runs(short):
    dataset = sets.load("jfk-weather")
    shape, recipe = (
        ModelConfig("patch", context=24, horizon=4, patch=8, d_model=4, heads=2),
        TrainConfig(epochs=1, batch=512),
    )
    root = paths.BUILD / "runs"
    root.mkdir()
    for run in (
        cached.Run(shape, "persistence"),
        cached.Run(shape, "ptq-minmax", 0, recipe, QuantConfig(8, 8, granularity="tensor")),
    ):
        made = {parent: cached.compute(parent, dataset, []) for parent in run.parents}
        made[run] = cached.compute(run, dataset, list(made.values()))
        held = partial(run_held, run, dataset, made)
        keep = partial(storage.keep, run, dataset, made[run])

        def damaged(run=run, keep=keep):
            keep()
            (storage.folder(run, dataset) / storage.ROW).write_bytes(b"{}")

        yield tried(f"{run.method}: a run is kept", root, lambda: None, keep, held, short)
        yield tried(f"{run.method}: a damaged one is replaced", root, damaged, keep, held, short)
