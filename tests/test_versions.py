"""Versions of a model on a device: numbered, put in use, gone back to; nothing damaged ever comes into use."""

import numpy as np
import pytest

from qatlib import zoo
from qatlib.artifact import ArtifactError
from qatlib.guard import Guard
from qatlib.versions import Versions

WINDOWS = zoo.windows("jfk-weather")[0][:2]
GUARDS = [Guard.fit(WINDOWS[:1]), Guard.fit(WINDOWS)]


@pytest.fixture
def versions(tmp_path):
    found = Versions(tmp_path / "device")
    for width, guard in zip(("w8a8", "w4a4"), GUARDS, strict=True):
        found.add(zoo.load("jfk-weather", f"patch-c336-d16-{width}"), guard)
    return found


def forecast(loaded):
    return loaded[0].forward(WINDOWS, backend="numpy")


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
    path = versions.folder / "0002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"0002\.safetensors"):
        versions.use(2)
    with pytest.raises(ArtifactError, match=r"0007\.json is missing"):
        versions.use(7)
    (versions.folder / "0007.json").write_text((versions.folder / "0001.json").read_text())  # power was lost before the model was written
    with pytest.raises(ArtifactError, match=r"0007\.safetensors is missing"):
        versions.use(7)
    (versions.folder / "0002.json").write_text('{"day": 24}')
    with pytest.raises(ArtifactError, match=r"0002\.json: not the whole numbers"):
        versions.use(2)
    assert versions.history == [1]


def test_a_damaged_history_is_named(versions):
    for content in ("[1, ", '{"in_use": 1}'):
        (versions.folder / "in_use.json").write_text(content)
        with pytest.raises(ArtifactError, match=r"in_use\.json: .* remove it and choose"):
            versions.use(1)


def test_numbers_go_on(versions):
    assert versions.add(zoo.load("jfk-weather", "patch-c336-d16-w2a2"), GUARDS[0]) == 3
