"""Programs that are refused, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.integer_model.program import Operation, Tensor
from tests.integer_model.by_hand import by_hand, changed, expected_by_hand, swapped, widened


def test_an_accumulator_below_the_limit_is_taken_and_one_that_reaches_it_is_not():
    """Four weights of 127 against codes up to 128: 65024, and the bias may take the rest of 2**24 - 1."""
    rest = (1 << 24) - 1 - 4 * 127 * 128
    for sign in (1, -1):
        counts = np.array([[-32768, -32768, -32768, 32767]], np.int16) * np.int16(sign)
        model = by_hand([[127] * 4], [sign * rest], out_shift=40)
        assert model.forward(counts).tolist() == expected_by_hand(model, counts)
        with pytest.raises(ValueError, match=r"linear head: an accumulator can reach 16777216, the limit is 2\*\*24"):
            by_hand([[127] * 4], [sign * (rest + 1)])


def test_the_proof_takes_the_zero_point_into_account():
    """At zero point -128 codes reach 255 from it, and the folded bias is judged with the zero point taken out again."""
    rest = (1 << 24) - 1 - 4 * 127 * 255
    folded = 4 * 127 * 128  # - zero point * sum of weights
    by_hand([[127] * 4], [rest + folded], codes=(-128, 127, -128))
    with pytest.raises(ValueError, match="can reach 16777216"):
        by_hand([[127] * 4], [rest + folded + 1], codes=(-128, 127, -128))


HEAD = "linear head: "
BAD_ARRAYS = [
    ({"head__m": np.array([1], np.uint16)}, HEAD + "m needs its top bit"),
    ({"head__n": np.array([0], np.uint8)}, HEAD + ".* n lies in 1..40"),
    ({"head__n": np.array([41], np.uint8)}, HEAD + ".* n lies in 1..40"),
    ({"head__m": np.array([1 << 15], np.int32)}, HEAD + "m is int32"),
    ({"head__m": np.array([1 << 15] * 3, np.uint16)}, HEAD + r"m is uint16 \(3,\)"),
    ({"head__bias": np.zeros(3, np.int32)}, HEAD + r"bias is int32 \(3,\)"),
    ({"head__bias": np.zeros(2, np.uint32)}, HEAD + "bias is uint32"),
    ({"head__weight": np.zeros(7, np.uint8)}, HEAD + r"weight is uint8 \(7,\)"),
    ({"source__m": np.array([3], np.uint16)}, "quantise source: m needs"),
    ({"output__n": np.array([200], np.uint8)}, "output output: .* n lies"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS)
def test_bad_arrays_are_named(arrays, message):
    model = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0])
    with pytest.raises(ValueError, match=message):
        changed(model, **arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 5}, r"quantise source: its output is \(4, 1\), not \(5, 1\)"),
        ({"horizon": 3}, r"the output tensor has shape \(1, 2\), 3 codes are forecast"),
        ({"operations": ()}, "begins with `quantise` and ends with `output`"),
        ({"arrays": {}}, "array head.bias, head.m, head.n is missing"),
        ({"tensors": {}}, "source"),
    ],
)
def test_bad_programs_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0]), **change)


@pytest.mark.parametrize(
    ("index", "operation", "message"),
    [
        (1, Operation("gelu", "flat", ("source",), "flat"), "'gelu' flat: unknown operation"),
        (1, Operation("reshape", "flat", ("head",), "flat"), "reshape flat: inputs .* are not computed before it"),
        (1, Operation("reshape", "flat", (), "flat"), "nothing reads source"),
        (1, Operation("reshape", "flat", ("source", "source"), "flat"), "reshape flat"),
        (1, Operation("output", "output", ("source",), "flat"), "output"),
        (2, Operation("linear", "head", ("flat",), "head", {}), "weight_bits"),
        (
            2,
            Operation("linear", "head", ("flat",), "head", {"weight_bits": 16}),
            "weight_bits is 16, no whole number of 2 to 8",
        ),
        (2, Operation("linear", "head", ("flat",), "nowhere", {"weight_bits": 8}), "nowhere"),
        (2, Operation("linear", "elsewhere", ("flat",), "head", {"weight_bits": 8}), "elsewhere"),
    ],
)
def test_bad_operations_are_named(index, operation, message):
    model = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0])
    operations = list(model.operations)
    operations[index] = operation
    with pytest.raises(ValueError, match=message):
        replace(model, operations=tuple(operations))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor((1, 2), -128, 127, 128),
        Tensor((1, 2), -128, 256, 0),
        Tensor((1, 2), -129, 127, 0),
        Tensor((1, 0), -128, 127, 0),
    ],
)
def test_impossible_tensors_are_named(tensor):
    model = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0])
    with pytest.raises(ValueError, match="tensor head: impossible range or shape"):
        replace(model, tensors=model.tensors | {"head": tensor})


def test_two_lengths_of_multiplier_and_shift():
    model = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0])
    changed(model, head__m=np.array([1 << 15] * 2, np.uint16), head__n=np.array([15] * 2, np.uint8))
    for m, n in ((2, 1), (1, 2)):
        with pytest.raises(ValueError, match=r"linear head: n is uint8 \(\d,\), not uint8"):
            changed(model, head__m=np.array([1 << 15] * m, np.uint16), head__n=np.array([15] * n, np.uint8))


def test_names_are_unique_and_used():
    """What one back end would look up by path, and another by tensor, or read twice from one place, is refused."""
    model = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0])
    out = Tensor((1, 2), -128, 127, 0)
    again = Operation("linear", "head", ("flat",), "head", {"weight_bits": 8})
    with pytest.raises(ValueError, match="linear head: another operation has this name"):
        replace(model, operations=(*model.operations[:3], again, model.operations[3]))
    with pytest.raises(ValueError, match="its result must have its name, not 'flat'"):
        swapped(model, 2, output="flat")
    with pytest.raises(ValueError, match=r"output elsewhere: it must be named output|its result must have its name"):
        swapped(model, 3, path="elsewhere")
    with pytest.raises(ValueError, match="output elsewhere: it must be named output"):
        swapped(model, 3, path="elsewhere", output="elsewhere")
    with pytest.raises(ValueError, match=r"inputs \('head',\) are not computed before it"):
        swapped(model, 2, inputs=("head",))
    with pytest.raises(ValueError, match="tensor 'head scratch': no name"):
        replace(model, tensors=model.tensors | {"head scratch": out})
    with pytest.raises(ValueError, match="tensors and results differ: spare"):
        replace(model, tensors=model.tensors | {"spare": out})
    with pytest.raises(ValueError, match=r"nothing uses the array 'head.spare'"):
        changed(model, head__spare=np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="its attributes must be weight_bits, not"):
        swapped(model, 2, attributes={"weight_bits": 8, "heads": 1})
    with pytest.raises(ValueError, match="has no other of either"):
        replace(
            model,
            operations=(*model.operations[:1], Operation("quantise", "again", (), "again"), *model.operations[1:]),
        )


@pytest.mark.parametrize(
    "path", ["", "a b", "a..b", ".a", "a.", "1a", "a-b", "a/b", "a\n", "ä", "a" * 101, "*/", "a;b"]
)
def test_paths_of_other_characters(path):
    model = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0])
    with pytest.raises(ValueError, match=r"path .* is not of 1 to 100 letters"):
        swapped(model, 1, path=path, output=path)


def test_sizes_are_bounded_before_anything_is_computed():
    """Of a few bytes in a file, and as Python's integers, which do not wrap."""
    model = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0])
    with pytest.raises(ValueError, match="impossible range or shape"):
        replace(model, tensors=model.tensors | {"head": Tensor((1 << 32, 1 << 32), -128, 127, 0)})
    with pytest.raises(ValueError, match="hold 4294967302 codes a window"):
        replace(model, tensors=model.tensors | {"flat": Tensor((1 << 16, 1 << 16), -128, 127, 0)})
    with pytest.raises(ValueError, match="linear head: more than 268435456 multiply-accumulates"):
        widened(tokens=128, width=512, outputs=4097)
    with pytest.raises(ValueError, match="the output tensor has shape"):  # what comes after it
        widened(tokens=128, width=512, outputs=4096)


ATTENTION = "encoder.0.attention."


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("query", {"zero_point": 5}, "scores .*symmetric"),
        ("value", {"zero_point": -1}, "context .*zero point 0"),
        ("scores", {"low": -64, "high": 63}, "8-bit scores"),
        ("scores", {"shape": (1, 6, 6)}, "scores .*shape"),
        ("softmax", {"low": -8, "high": 7}, "probabilities are unsigned"),
    ],
)
def test_attention_is_checked(exported, name, change, message):
    model = exported["patch"]
    tensor = replace(model.tensors[ATTENTION + name], **change)
    with pytest.raises(ValueError, match=message):
        replace(model, tensors=model.tensors | {ATTENTION + name: tensor})


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        (ATTENTION + "softmax.table", np.zeros(256, np.uint8), "table starts at 255"),
        (ATTENTION + "softmax.numerator", np.array([255 << 17], np.uint32), r"reciprocal < 2\*\*17"),
        (ATTENTION + "softmax.k", np.array([25], np.uint8), "k in 1..24"),
        ("encoder.0.norm_attention.n", np.full(8, 31, np.uint8), "n in 1..30"),
        ("encoder.0.norm_attention.m1", np.full(8, 65536, np.int32), r"within \+-65535"),
        ("encoder.0.norm_attention.c", np.full(8, (1 << 31) - 1, np.int32), "does not fit 32 bits"),
        ("tokens.position.position", np.zeros(3, np.uint8), "position is uint8"),
    ],
)
def test_constants_are_checked(exported, array, value, message):
    with pytest.raises(ValueError, match=message):
        replace(exported["patch"], arrays=exported["patch"].arrays | {array: value})
