"""Model files: the round trip, the format, and every way a file can be wrong."""

import json
import os
import tracemalloc
from contextlib import contextmanager

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


@pytest.fixture(scope="module")
def saved(float_model, quantised, tmp_path_factory):
    """(model, its file)"""
    model = qat.export(quantised(float_model("patch"), QuantConfig(4, 4, 8, 8, "asymmetric")))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path)
    return model, path


@pytest.fixture
def damaged(tmp_path):
    """Writes bytes to a file; -> its path."""

    def write(raw):
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(raw)
        return path

    return write


def parts(path):
    """(header as a dictionary, bytes of the arrays)"""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def joined(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + data


@contextmanager
def little_memory():
    """At most 1 MiB allocated within."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def announcing(shape, dtype="U8", offsets=(0, 0), **metadata):
    """A file of ours, as far as its header goes, that announces one array."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}
    return joined({"__metadata__": {"format": "qatlib", "version": str(artifact.VERSION), **metadata}, "a": entry})


# -- round trip


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip(float_model, quantised, extreme_counts, tmp_path, family):
    model = qat.export(quantised(float_model(family, layers=2), QuantConfig(3, 5, 8, 6, "asymmetric")))
    model.save(tmp_path / "model.safetensors")
    again = IntegerModel.load(tmp_path / "model.safetensors")
    for name in ("name", "context", "horizon", "resolution", "anchor", "operations", "tensors", "size_bytes"):
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
        assert file.metadata()["format"] == "qatlib" and file.metadata()["version"] == "1"


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


# -- damage


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
    document["resolution"] *= 2
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


# -- foreign, newer, hostile


def test_a_foreign_safetensors_file(tmp_path):
    safetensors.numpy.save_file({"weight": np.zeros((3, 4), np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ArtifactError, match=r"foreign\.safetensors: a safetensors file, but not one of qatlib"):
        IntegerModel.load(tmp_path / "foreign.safetensors")
    safetensors.numpy.save_file({"weight": np.zeros(4, np.uint8)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match="not one of qatlib"):
        IntegerModel.load(tmp_path / "foreign.safetensors")


def test_a_newer_version(saved, damaged):
    header, data = parts(saved[1])
    header["__metadata__"]["version"] = str(artifact.VERSION + 1)
    with pytest.raises(ArtifactError, match=r"version '2', this qatlib reads version 1; update qatlib"):
        IntegerModel.load(damaged(joined(header, data)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"PK\x03\x04" + bytes(60),
        b"time,value\n2020-01-01,3\n" * 9,
        b"\x93NUMPY\x01\x00v\x00" + bytes(120),
        bytes(64),
    ],
)
def test_files_of_other_kinds(damaged, raw):
    with pytest.raises(ArtifactError, match="safetensors"):
        IntegerModel.load(damaged(raw))


@pytest.mark.parametrize(
    "header", [b"not JSON", b"[1, 2]", b"3", b'"text"', b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' * 50_000]
)
def test_headers_that_are_no_dictionary(damaged, header):
    with pytest.raises(ArtifactError, match=r"the header is not JSON|not one of qatlib"):
        IntegerModel.load(damaged(joined(header)))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, (1 << 20) + 1])
def test_a_huge_announced_header_is_refused_unread(damaged, length):
    path = damaged(length.to_bytes(8, "little") + b"{}")
    with little_memory(), pytest.raises(ArtifactError, match="not a safetensors file"):
        IntegerModel.load(path)


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([10**12], (0, 0)),
        ([10**12], (0, 10**12)),
        ([10**6, 10**6], (0, 10**12)),
        ([2**32, 2**32], (0, 0)),  # 2**64 wraps to nothing in 64 bits
        ([2**63, 2], (0, 0)),
        ([-1], (0, -1)),
        ([-4, -4], (0, 16)),
        ([4], (-4, 0)),
        ([1.5], (0, 1)),
        ([True], (0, 1)),
        ([None], (0, 1)),
        (["4"], (0, 4)),
        ([10**13, "x"], (0, 0)),
        ([[0], 10**12], (0, 0)),
        ([{}], (0, 0)),
        ("abc", (0, 0)),
        ({"a": 1}, (0, 0)),
        ({}, (0, 1)),
        ("", (0, 1)),
        (None, (0, 0)),
        (4, (0, 4)),
        ([4], (0,)),
        ([4], (0, 4, 8)),
        ([4], ("0", "4")),
    ],
)
def test_impossible_arrays_are_refused_without_allocating_them(damaged, shape, offsets):
    path = damaged(announcing(shape, offsets=offsets))
    with little_memory(), pytest.raises(ArtifactError, match=r"damaged\.safetensors: "):
        artifact.read(path)


@pytest.mark.parametrize("dtype", ["F32", "I64", "u8", None, 3, [], {}])
def test_dtypes_that_are_not_ours(damaged, dtype):
    with pytest.raises(ArtifactError, match="array 'a' has no valid dtype"):
        artifact.read(damaged(announcing([0], dtype=dtype)))


@pytest.mark.parametrize("metadata", [None, [], "qatlib", {}, {"format": "qatlib"}, {"format": "qatlib", "version": 1}])
def test_metadata_of_other_shapes(damaged, metadata):
    with pytest.raises(ArtifactError):
        artifact.read(damaged(joined({"__metadata__": metadata})))


def test_a_file_too_large_to_be_a_model(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that takes no room
    with pytest.raises(ArtifactError, match=r"1099511627776 bytes are more than a model has"):
        IntegerModel.load(tmp_path / "large")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(0, 8), (0, 8)], "begins at byte 0, the one before it ends at 8"),  # shared
        ([(0, 8), (4, 12)], "begins at byte 4"),  # overlapping
        ([(0, 8), (12, 20)], "begins at byte 12"),  # bytes of nobody
        ([(4, 12), (12, 20)], "begins at byte 4, the one before it ends at 0"),
    ],
)
def test_arrays_that_do_not_lie_end_to_end(damaged, places, message):
    table = {f"a{i}": {"dtype": "U8", "shape": [8], "data_offsets": list(place)} for i, place in enumerate(places)}
    header = {"__metadata__": {"format": "qatlib", "version": str(artifact.VERSION)}, **table}
    with pytest.raises(ArtifactError, match=message):
        artifact.read(damaged(joined(header, bytes(max(stop for _, stop in places)))))


def test_many_arrays_of_the_same_bytes_take_no_memory(damaged):
    """20,000 names for one megabyte would be 20 gigabytes."""
    entry = {"dtype": "U8", "shape": [1 << 20], "data_offsets": [0, 1 << 20]}
    header = {
        "__metadata__": {"format": "qatlib", "version": str(artifact.VERSION)},
        **{f"a{i}": entry for i in range(9000)},
    }
    path = damaged(joined(header, bytes(1 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match="begins at byte 0"):
            artifact.read(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(ArtifactError, match="no regular file"):
            IntegerModel.load(path)
    with pytest.raises(IsADirectoryError):
        IntegerModel.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": ' * 50_000,
        '{"name": 1, "name": 2}',
        '{"name": NaN}',
        "-Infinity",
        "9" * 5000,
        "",
        "{'a': 1}",
    ],
)
def test_documents_that_are_no_plain_json(damaged, text):
    metadata = {"format": "qatlib", "version": str(artifact.VERSION), "model": text}
    metadata["sha256"] = artifact._checksum(text, {}, b"")
    with pytest.raises(ArtifactError, match="its model document is not JSON"):
        IntegerModel.load(damaged(joined({"__metadata__": metadata})))


@pytest.mark.parametrize("document", [None, 3, [1], {"a": 1}])
def test_documents_that_are_no_text(damaged, document):
    metadata = {"format": "qatlib", "version": str(artifact.VERSION), "model": document}
    metadata["sha256"] = artifact._checksum(document, {}, b"")
    with pytest.raises(ArtifactError, match="checksum does not match"):
        IntegerModel.load(damaged(joined({"__metadata__": metadata})))


def test_what_a_file_says_is_shown_escaped_and_cut(saved, tmp_path):
    document, arrays = artifact.read(saved[1])
    for name in ("\x1b[31mred", "*/ int x; /*", "a\n#error", "<script>", "n" * 101, ""):
        disk.write(tmp_path / "bad", artifact.encode({**document, "name": name}, arrays))
        with pytest.raises(ArtifactError, match=r"name .* is not of 1 to 100 letters") as raised:
            IntegerModel.load(tmp_path / "bad")
        assert "\x1b" not in str(raised.value) and "\n" not in str(raised.value)
    disk.write(tmp_path / "bad", artifact.encode({**document, "anchor": "x" * 10**5}, arrays))
    with pytest.raises(ArtifactError, match="anchor") as raised:
        IntegerModel.load(tmp_path / "bad")
    assert len(str(raised.value)) < 600


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        IntegerModel.load(tmp_path / "nowhere")


@pytest.mark.parametrize("document", [None, [], "text", 3, {}, {"operations": [], "tensors": []}])
def test_a_whole_file_without_a_program(tmp_path, document):
    disk.write(tmp_path / "bad.safetensors", artifact.encode(document, {}))
    with pytest.raises(ArtifactError, match=r"bad\.safetensors: no valid program"):
        IntegerModel.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("operations"), "operations"),
        (lambda d: d.update(surplus=1), "surplus"),
        (lambda d: d["operations"].pop(), "ends with `output`"),
        (lambda d: d["operations"][3].pop("kind"), "kind"),
        (lambda d: d["operations"].__setitem__(0, "quantise"), "no valid program"),
        (lambda d: d["operations"][2]["attributes"].update(weight_bits="4"), "no valid program"),
        (lambda d: d["tensors"]["head"].update(low="a"), "no valid program"),
        (lambda d: d["tensors"]["head"].update(shape=[1, 10**12]), "no valid program"),
        (lambda d: d["tensors"].update(head=3), "no valid program"),
        (lambda d: d.update(context=None), "no valid program"),
        (lambda d: d.update(context=10**12), "no valid program"),
        (lambda d: d.update(horizon=7), "horizon is 7"),
        (lambda d: d.update(resolution="fine"), "no valid program.*resolution"),
        (lambda d: d.update(resolution=-0.5), "no valid program.*resolution"),
        (lambda d: d.update(resolution=float("nan")), "NaN is no number"),
        (lambda d: d["tensors"]["tokens.patches"].update(shape=[6.0, 8.0]), "no valid program"),
        (lambda d: d["tensors"]["head"].update(zero_point=0.5), "no valid program"),
        (
            lambda d: next(o for o in d["operations"] if o["kind"] == "scores")["attributes"].update(heads=2.0),
            "no valid program",
        ),
        (lambda d: d.update(anchor=1.5), "no valid program.*anchor"),
        (lambda d: d.update(anchor=10**9), "no valid program.*anchor"),
    ],
)
def test_a_whole_file_with_a_program_that_is_none(saved, tmp_path, change, message):
    """Written by ourselves, checksum and all: what it says is still checked."""
    document, arrays = artifact.read(saved[1])
    change(document)
    disk.write(tmp_path / "bad.safetensors", artifact.encode(document, arrays))
    with pytest.raises(ArtifactError, match=rf"bad\.safetensors: .*{message}"):
        IntegerModel.load(tmp_path / "bad.safetensors")
