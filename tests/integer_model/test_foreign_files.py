"""Files that are foreign, newer, or meant to harm."""

import os
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

from qatlib.integer_model import artifact
from qatlib.integer_model.artifact import ArtifactError
from qatlib.integer_model.model import IntegerModel
from qatlib.system import disk
from tests.integer_model.headers import announcing, joined, little_memory, parts


def test_a_foreign_safetensors_file(tmp_path):
    safetensors.numpy.save_file({"weight": np.zeros((3, 4), np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ArtifactError, match=r"foreign\.safetensors: a safetensors file, but not one of qatlib"):
        IntegerModel.load(tmp_path / "foreign.safetensors")
    safetensors.numpy.save_file({"weight": np.zeros(4, np.uint8)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match="not one of qatlib"):
        IntegerModel.load(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("version", [1, 3])
def test_another_version(saved, damaged, version):
    header, data = parts(saved[1])
    header["__metadata__"]["version"] = str(version)
    with pytest.raises(ArtifactError, match=rf"version '{version}', this qatlib reads version 2; update qatlib, or"):
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
        (lambda d: d.update(horizon=7), "7 codes are forecast"),
        (lambda d: d["channels"][0].update(resolution="fine"), "no valid program.*resolution"),
        (lambda d: d["channels"][0].update(resolution=-0.5), "no valid program.*resolution"),
        (lambda d: d["channels"][0].update(resolution=float("nan")), "NaN is no number"),
        (lambda d: d["tensors"]["tokens.patches"].update(shape=[6.0, 8.0]), "no valid program"),
        (lambda d: d["tensors"]["head"].update(zero_point=0.5), "no valid program"),
        (
            lambda d: next(o for o in d["operations"] if o["kind"] == "scores")["attributes"].update(heads=2.0),
            "no valid program",
        ),
        (lambda d: d["channels"][0].update(anchor=1.5), "no valid program.*anchor"),
        (lambda d: d["channels"][0].update(anchor=10**9), "no valid program.*anchor"),
        (lambda d: d["channels"][0].update(name="*/ evil"), "no valid program.*name"),
        (lambda d: d["channels"][0].pop("name"), "no valid program.*name"),
        (lambda d: d["channels"].append(d["channels"][0]), "two channels have one name"),
        (lambda d: d.update(channels=[]), "it has 0 channels"),
        (lambda d: d.update(channels={}), "must be lists"),
        (lambda d: d.update(mode="both"), "mode 'both' must be independent or mixed"),
        (lambda d: d.update(targets=[1]), "targets .* must be indices"),
        (lambda d: d.update(targets=[]), "targets .* must be indices"),
        (lambda d: d.update(task="paint"), "task 'paint': this qatlib knows forecast, classify, detect"),
        (lambda d: d.update(labels=["a"]), "a model to forecast has no labels"),
        (lambda d: d.update(threshold=1), "threshold 1: a detector has a whole number, the others have None"),
    ],
)
def test_a_whole_file_with_a_program_that_is_none(saved, tmp_path, change, message):
    """Written by ourselves, checksum and all: what it says is still checked."""
    document, arrays = artifact.read(saved[1])
    change(document)
    disk.write(tmp_path / "bad.safetensors", artifact.encode(document, arrays))
    with pytest.raises(ArtifactError, match=rf"bad\.safetensors: .*{message}"):
        IntegerModel.load(tmp_path / "bad.safetensors")
