"""Versions of a model on a device: numbered, put in use, gone back to; nothing damaged ever comes into use."""

import errno
import json
import multiprocessing
import os
import re
from dataclasses import asdict

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.device.guard import Guard
from qatlib.device.versions import Versions
from qatlib.integer_model.artifact import ArtifactError
from qatlib.system import disk
from tests import several_channels

WINDOWS = shipped.windows("jfk-weather")[0][:2]
GUARDS = [Guard.fit(WINDOWS[:1]), Guard.fit(WINDOWS)]
SMALL = "patch-c336-d16-w2a2"


@pytest.fixture
def versions(tmp_path):
    found = Versions(tmp_path / "device")
    for width, guard in zip(("w8a8", "w4a4"), GUARDS, strict=True):
        found.add(shipped.load("jfk-weather", f"patch-c336-d16-{width}"), guard)
    return found


def forecast(loaded):
    return loaded[0].forward(WINDOWS)


def test_use_and_roll_back(versions):
    assert versions.history == []
    with pytest.raises(ValueError, match="no version is in use"):
        versions.current()
    first, second = versions.use(1), versions.use(2)
    versions.use(2)  # again
    assert versions.history == [1, 2] and first[1] == GUARDS[0] and second[1] == GUARDS[1]
    assert not np.array_equal(forecast(first), forecast(second))
    again = versions.roll_back()
    np.testing.assert_array_equal(forecast(again), forecast(first))
    assert Versions(versions.folder).history == [1]  # as a device finds it after its next start
    np.testing.assert_array_equal(forecast(Versions(versions.folder).current()), forecast(first))
    with pytest.raises(ValueError, match="no version was in use before"):
        versions.roll_back()
    assert versions.history == [1]


def test_a_version_that_cannot_be_read_never_comes_into_use(versions):
    versions.use(1)
    path = versions.folder / "0002" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"0002/model\.safetensors"):
        versions.use(2)
    with pytest.raises(ArtifactError, match=r"0007/guard\.json is missing"):
        versions.use(7)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"0002/model\.safetensors is missing"):
        versions.use(2)
    assert versions.history == [1]


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None, 10**300])
def test_what_is_no_number_names_no_version(versions, version):
    with pytest.raises(ArtifactError, match="versions have numbers"):
        versions.use(version)


SAVED = asdict(GUARDS[1])
LIMITS = SAVED["channels"][0]


def saved(*channels, **fields):
    """A guard's file, with Limits of these fields."""
    return json.dumps({"guard": SAVED | {"channels": list(channels)} | fields})


DAMAGED = {
    "cut": '{"guard": {"context": 3',
    "null": "null",
    "number": "12",
    "list": "[]",
    "fields missing": '{"guard": {"day": 24}}',
    "an unknown field": saved(LIMITS, **{"\x1b[2J": 1}),
    "an unknown limit": saved(LIMITS | {"\x1b[2J": 1}),
    "a limit missing": saved({"low": 1}),
    "fraction": saved(LIMITS | {"jump": 1.5}),
    "truth": saved(LIMITS | {"jump": True}),
    "not a number": saved(LIMITS | {"jump": float("nan")}),
    "beyond floats": saved(LIMITS).replace(f'"jump": {LIMITS["jump"]}', '"jump": 1e999'),
    "5000 digits": saved(LIMITS).replace(f'"jump": {LIMITS["jump"]}', f'"jump": {"9" * 5000}'),
    "twice": saved(LIMITS).replace('"jump"', '"jump": 1, "jump"'),
    "no channel": saved(),
    "two channels": saved(LIMITS, LIMITS),
    "more channels than any model": saved(*[LIMITS] * 1000),
    "channels of another kind": saved(channels={"0": LIMITS}),
    "channels without names": saved(list(LIMITS.values())),
    "channels of nothing": saved(None),
    "deep": "[" * 100_000,
    "no text": b"\xff\xfe",
    "another context": saved(LIMITS, context=48),
    "another jump": saved(LIMITS | {"jump": LIMITS["jump"] + 1})[:-1] + f', "sha256": "{"0" * 64}"}}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_guard_is_named(versions, content):
    versions.use(1)
    path = versions.folder / "0002" / "guard.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArtifactError, match=r"/0002.*add the version again") as caught:
        versions.use(2)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    assert versions.history == [1]


def test_a_guard_and_a_model_of_two_versions_are_none(versions):
    (versions.folder / "0001" / "guard.json").replace(versions.folder / "0002" / "guard.json")
    with pytest.raises(ArtifactError, match="0002: the checksum does not match"):
        versions.load(2)


NO_HISTORY = (
    "[1, ",
    '{"in_use": 1}',
    "null",
    "[true]",
    "[0]",
    "[1.0]",
    "[NaN]",
    "[1e999]",
    "[" * 100_000,
    f"[{'9' * 5000}]",
)


@pytest.mark.parametrize("content", NO_HISTORY)
def test_a_damaged_history_is_named(versions, content):
    versions.use(1)
    (versions.folder / "in_use.json").write_text(content)
    for start in (versions.current, lambda: versions.use(1), versions.roll_back):
        with pytest.raises(ArtifactError, match=r"in_use\.json: .* remove it and choose"):
            start()
    (versions.folder / "in_use.json").unlink()
    assert versions.use(1)[1] == GUARDS[0]


def test_a_guard_of_another_model_is_refused(versions):
    with pytest.raises(ValueError, match="the guard is for windows of 4 samples, the model for 336"):
        versions.add(shipped.load("jfk-weather", SMALL), Guard.fit(WINDOWS[:, :4], day=2))
    assert versions.add(shipped.load("jfk-weather", SMALL), GUARDS[0]) == 3


def test_several_channels_have_a_guard_each(versions):
    model = several_channels.MODELS["two independent"]
    counts = several_channels.windows(model, 0, 20).clip(-9000, 9000)
    guard = Guard.fit(counts, day=4)
    assert versions.add(model, guard) == 3
    loaded = versions.use(3)
    assert loaded[1] == guard and guard.channels[0] != guard.channels[1]
    np.testing.assert_array_equal(loaded[0].forward(counts), model.forward(counts))
    with pytest.raises(ValueError, match=r"the guard is for 1 channel\(s\), the model for 2"):
        versions.add(model, Guard.fit(counts[:, :, 0], day=4))
    path = versions.folder / "0003" / "guard.json"
    document = json.loads(path.read_text())
    document["guard"]["channels"].reverse()
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="0003: the checksum does not match"):
        versions.load(3)


def add_ten(folder):
    versions, model = Versions(folder), shipped.load("jfk-weather", SMALL)
    return [versions.add(model, GUARDS[0]) for _ in range(10)]


def test_writers_at_the_same_time_lose_nothing(versions):
    """Numbers are given once, by threads and processes alike, and what was added is there."""
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        given = pool.map_async(add_ten, [versions.folder] * 3).get(120)
    assert sorted(number for numbers in given for number in numbers) == list(range(3, 33))
    assert all(versions.load(number) for number in (3, 20, 32))


def test_who_is_writing_is_named(versions, monkeypatch):
    monkeypatch.setattr(disk, "WAIT", 0)
    with (
        disk.locked(versions.folder),
        pytest.raises(TimeoutError, match=f"device is in use by process {os.getpid()} on .* since 20"),
    ):
        versions.use(1)
    assert versions.use(1)[1] == GUARDS[0]


def test_a_full_disk_changes_nothing(versions, monkeypatch):
    """Neither an add nor a use; scratch is removed, and the number is given again."""
    versions.use(1)
    before = sorted(versions.folder.rglob("*"))

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for write in (lambda: versions.add(shipped.load("jfk-weather", SMALL), GUARDS[0]), lambda: versions.use(2)):
            with pytest.raises(OSError, match="No space left"):
                write()
    assert sorted(versions.folder.rglob("*")) == before and versions.history == [1]
    assert versions.add(shipped.load("jfk-weather", SMALL), GUARDS[0]) == 3


def test_what_a_power_cut_left_is_cleared_away(versions):
    left = disk.scratch(versions.folder / "0003")
    left.mkdir()
    (left / "guard.json").write_text("{")
    disk.scratch(versions.folder / "in_use.json").write_text("[")
    versions.use(2)
    assert versions.add(shipped.load("jfk-weather", SMALL), GUARDS[0]) == 3
    assert sorted(path.name for path in versions.folder.iterdir()) == [".lock", "0001", "0002", "0003", "in_use.json"]


def test_bytes_and_names_are_on_the_disk_in_time(versions, monkeypatch):
    """Every file before it gets its name, and the folder's names before `add` and `use` return."""
    steps, real = [], (os.fsync, os.replace)

    def fsync(handle):
        steps.append(
            f"sync {re.sub(r'[.](.*)[.][0-9a-f]{8}[.]part', 'scratch', os.readlink(f'/proc/self/fd/{handle}'))}"
        )
        real[0](handle)

    def replace(source, target, **options):
        steps.append(f"name {target}")
        real[1](source, target, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    folder = versions.folder
    versions.add(shipped.load("jfk-weather", SMALL), GUARDS[0])
    files = [f"sync {folder}/scratch/{name}" for name in ("model.safetensors", "guard.json")]
    assert steps == [*files, f"sync {folder}/scratch", f"name {folder}/0003", f"sync {folder}"]
    steps.clear()
    versions.use(3)
    assert steps == [f"sync {folder}/scratch", f"name {folder}/in_use.json", f"sync {folder}"]
