"""Model files: the round trip, the format, and damage."""

import json

import numpy as np
import pytest
import safetensors.numpy

from qatlib.float_model.config import FAMILIES
from qatlib.integer_model import artifact
from qatlib.integer_model.artifact import ArtifactError
from qatlib.integer_model.model import IntegerModel
from qatlib.quantised_model import qat
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.system import disk
from tests.integer_model.headers import joined, parts


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip(float_model, quantised, extreme_counts, tmp_path, family):
    model = qat.export(quantised(float_model(family, layers=2), QuantConfig(3, 5, 8, 6, "asymmetric")))
    model.save(tmp_path / "model.safetensors")
    again = IntegerModel.load(tmp_path / "model.safetensors")
    for name in ("name", "context", "horizon", "channels", "mode", "targets", "task", "operations", "tensors"):
        assert getattr(again, name) == getattr(model, name)
    assert model.arrays.keys() == again.arrays.keys()
    for name, array in model.arrays.items():
        assert array.dtype == again.arrays[name].dtype
        np.testing.assert_array_equal(array, again.arrays[name])
    counts = extreme_counts(model.context)
    np.testing.assert_array_equal(model.forward(counts), again.forward(counts))
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_the_official_library_reads_it(saved):
    model, path = saved
    arrays = safetensors.numpy.load_file(path)
    assert arrays.keys() == model.arrays.keys()
    for name, array in arrays.items():
        assert array.dtype == model.arrays[name].dtype
        np.testing.assert_array_equal(array, model.arrays[name])
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["format"] == "qatlib" and file.metadata()["version"] == "2"


def test_every_dtype_and_extreme_value(tmp_path):
    arrays = {
        "a": np.array([0, 255], np.uint8),
        "b": np.array([[0], [65535]], np.uint16),
        "c": np.array([-(2**31), 2**31 - 1], np.int32),
        "d": np.array([2**32 - 1], np.uint32),
        "e": np.zeros((0, 3), np.uint8),
        "f": np.arange(12, dtype=np.int32).reshape(3, 4).T,  # not contiguous
    }
    disk.write(tmp_path / "x", artifact.encode({"text": "µ °C", "number": 0.002, "none": None}, arrays))
    document, again = artifact.read(tmp_path / "x")
    assert document == {"text": "µ °C", "number": 0.002, "none": None}
    for name, array in arrays.items():
        assert array.dtype == again[name].dtype and again[name].flags.writeable
        np.testing.assert_array_equal(array, again[name])


def test_a_failing_save_leaves_the_old_file_and_nothing_else(saved, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved[1].read_bytes())
    with pytest.raises(TypeError):
        disk.write(path, artifact.encode({"not JSON": object()}, {}))
    assert path.read_bytes() == saved[1].read_bytes() and list(tmp_path.iterdir()) == [path]


def test_saving_replaces_the_file_whole(saved, tmp_path):
    """Who has the old file open reads the old file to its end."""
    path = tmp_path / "model.safetensors"
    disk.write(path, artifact.encode({"model": "old"}, {"a": np.arange(99, dtype=np.int32)}))
    old = path.read_bytes()
    with path.open("rb") as reader:
        saved[0].save(path)
        assert reader.read() == old
    assert path.read_bytes() == saved[1].read_bytes() and list(tmp_path.iterdir()) == [path]


def test_truncated_anywhere(saved, damaged):
    raw = saved[1].read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    lengths = {0, 1, 7, 8, 9, 100, header // 2, header - 1, header, header + 1, (header + len(raw)) // 2, len(raw) - 1}
    for length in lengths:
        path = damaged(raw[:length])
        with pytest.raises(ArtifactError, match=r"damaged\.safetensors: .*(truncated|not a safetensors)"):
            IntegerModel.load(path)


def test_extended(saved, damaged):
    with pytest.raises(ArtifactError, match="truncated or extended"):
        IntegerModel.load(damaged(saved[1].read_bytes() + b"\0"))


def test_every_flipped_bit_is_noticed(saved, damaged):
    """Random bits of each region, all bits of the header's length and of its last bytes, where padding lies."""
    raw = bytearray(saved[1].read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    rng = np.random.default_rng(0)
    bits = [*range(64), *range(8 * (header - 8), 8 * header)]
    bits += [*rng.integers(64, 8 * header, 120), *rng.integers(8 * header, 8 * len(raw), 80)]
    for bit in bits:
        raw[bit // 8] ^= 1 << (bit % 8)
        path = damaged(bytes(raw))
        with pytest.raises(ArtifactError, match=r"damaged\.safetensors: "):
            IntegerModel.load(path)
        raw[bit // 8] ^= 1 << (bit % 8)


def test_damage_in_the_arrays_is_told_by_the_checksum(saved, damaged):
    header, data = parts(saved[1])
    with pytest.raises(ArtifactError, match="checksum does not match"):
        IntegerModel.load(damaged(joined(header, data[:-1] + bytes([data[-1] ^ 1]))))


def test_every_part_of_the_header_is_under_the_checksum(saved, damaged):
    header, data = parts(saved[1])
    document = json.loads(header["__metadata__"]["model"])
    document["context"] *= 2
    name = next(n for n, e in header.items() if n != "__metadata__" and e["shape"] == [8])
    renamed = {(n + "x" if n == name else n): entry for n, entry in header.items()}
    changes = [
        {**header, "__metadata__": {**header["__metadata__"], "model": json.dumps(document)}},
        {**header, name: {**header[name], "shape": [2, 4]}},
        renamed,
    ]
    for change in changes:
        with pytest.raises(ArtifactError, match="checksum does not match"):
            IntegerModel.load(damaged(joined(change, data)))
