"""The exported model: what it computes, what it refuses, and that it runs with numpy alone."""

import math
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from qatlib.float_model.config import FAMILIES
from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import Operation, Tensor, pack, unpack
from qatlib.quantised_model import qat
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.system import paths


def by_hand(
    weight,
    bias,
    *,
    codes=(-128, 127, 0),
    input_shift=16,
    out=(-128, 127, 0),
    out_shift=24,
    counts_shift=15,
    anchor=None,
):
    """A program of one linear layer: 2**15 / 2**shift multiplies at the input, after the layer and at the output."""
    weight, bias = np.array(weight), np.array(bias, np.int32)
    horizon, context = weight.shape

    def multiplier(path, shift):
        return {f"{path}.m": np.array([1 << 15], np.uint16), f"{path}.n": np.array([shift], np.uint8)}

    return IntegerModel(
        name="by-hand",
        context=context,
        horizon=horizon,
        resolution=0.5,
        anchor=anchor,
        operations=(
            Operation("quantise", "source", (), "source"),
            Operation("reshape", "flat", ("source",), "flat"),
            Operation("linear", "head", ("flat",), "head", {"weight_bits": 8}),
            Operation("output", "output", ("head",), "output"),
        ),
        tensors={
            "source": Tensor((context, 1), *codes),
            "flat": Tensor((1, context), *codes),
            "head": Tensor((1, horizon), *out),
        },
        arrays={
            "head.weight": pack(weight, 8),
            "head.bias": bias,
            **multiplier("source", input_shift),
            **multiplier("head", out_shift),
            **multiplier("output", counts_shift),
        },
    )


def half_up(x):
    return math.floor(x + Fraction(1, 2))


def expected_by_hand(model, counts):
    """The program of `by_hand` in Python's integers."""
    weight, bias = model.weight(model.operations[2]).tolist(), model.arrays["head.bias"].tolist()
    shift = {path: int(model.arrays[f"{path}.n"][0]) for path in ("source", "head", "output")}
    source, head = model.tensors["source"], model.tensors["head"]

    def requantised(x, path, t):
        return max(t.low, min(t.high, t.zero_point + half_up(Fraction(x << 15, 1 << shift[path]))))

    rows = []
    for window in counts.tolist():
        anchor = window[-1] if model.anchor is None else model.anchor
        q = [requantised(c - anchor, "source", source) for c in window]
        codes = [
            requantised(sum(w * v for w, v in zip(row, q, strict=True)) + b, "head", head)
            for row, b in zip(weight, bias, strict=True)
        ]
        changes = [half_up(Fraction((code - head.zero_point) << 15, 1 << shift["output"])) for code in codes]
        rows.append([max(-32768, min(32767, change + anchor)) for change in changes])
    return rows


@pytest.fixture(scope="module")
def exported(float_model, quantised):
    return {
        family: qat.export(quantised(float_model(family), QuantConfig(4, 4, 8, 8, "asymmetric"))) for family in FAMILIES
    }


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (16, 64)])
def test_pack_and_unpack(bits, shape):
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = np.random.default_rng(bits).integers(low, high + 1, shape)
    codes.flat[0], codes.flat[-1] = low, high
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8 and len(packed) == (codes.size * bits + 7) // 8
    np.testing.assert_array_equal(unpack(packed, bits, shape), codes)


def test_pack_puts_the_lowest_bits_first():
    assert pack([1, -2, -1, 0], 2).tolist() == [0b00_11_10_01]


@pytest.mark.parametrize("anchor", [None, 1000])
@pytest.mark.parametrize("codes", [(-128, 127, 0), (-128, 127, -128), (-128, 127, 127), (-8, 7, 3)])
@pytest.mark.parametrize("counts_shift", [15, 14, 8, 17])
def test_forward_by_hand(extreme_counts, anchor, codes, counts_shift):
    rng = np.random.default_rng(0)
    model = by_hand(
        rng.integers(-127, 128, (5, 6)),
        rng.integers(-3000, 3000, 5),
        codes=codes,
        out=(-128, 127, -20),
        counts_shift=counts_shift,
        anchor=anchor,
    )
    counts = np.concatenate([extreme_counts(6), rng.integers(900, 1100, (20, 6)).astype(np.int16)])
    forecast = model.forward(counts)
    assert forecast.dtype == np.int16 and forecast.shape == (len(counts), 5)
    assert forecast.tolist() == expected_by_hand(model, counts)


def test_forward_saturates_at_both_ends_of_int16():
    model = by_hand([[0], [0]], [1 << 22, -(1 << 22)], counts_shift=5)  # changes of 127 and -128 times 1024
    assert model.forward(np.array([[32767], [0], [-32768]], np.int16)).tolist() == [[32767, -32768]] * 3
    small = by_hand([[0], [0]], [1 << 22, -(1 << 22)])
    assert small.forward(np.array([[32700], [-32700]], np.int16)).tolist() == [[32767, 32572], [-32573, -32768]]


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_is_codes_times_multiplier_plus_anchor(exported, extreme_counts, family):
    model = exported[family]
    counts = extreme_counts(model.context)
    m, n = int(model.arrays["output.m"][0]), int(model.arrays["output.n"][0])
    zero_point = model.tensors["head"].zero_point
    for codes, forecast, window in zip(
        model.output_codes(counts).tolist(), model.forward(counts).tolist(), counts.tolist(), strict=True
    ):
        anchor = window[-1] if model.anchor is None else model.anchor
        wanted = [half_up(Fraction((code - zero_point) * m, 1 << n)) + anchor for code in codes]
        assert forecast == [max(-32768, min(32767, w)) for w in wanted]


def test_windows_do_not_touch_each_other(exported):
    """More windows than are computed at a time, and any split of them."""
    model = exported["decoder"]
    counts = np.random.default_rng(0).integers(19000, 21000, (600, model.context)).astype(np.int16)
    whole = model.forward(counts)
    np.testing.assert_array_equal(
        whole, np.concatenate([model.forward(counts[:1]), model.forward(counts[1:301]), model.forward(counts[301:])])
    )
    np.testing.assert_array_equal(whole[::-1], model.forward(counts[::-1]))


def test_an_empty_batch(exported):
    for model in exported.values():
        empty = model.forward(np.empty((0, model.context), np.int16))
        assert empty.shape == (0, 6) and empty.dtype == np.int16
        assert model.predict(np.empty((0, model.context))).shape == (0, 6)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.float64, np.int8, bool])
def test_wrong_dtype(exported, dtype):
    with pytest.raises(TypeError, match=rf"counts are {np.dtype(dtype)}, not int16; `predict` takes values"):
        exported["patch"].forward(np.zeros((2, 48), dtype))


@pytest.mark.parametrize("shape", [(48,), (2, 47), (2, 49), (2, 48, 1), (), (0,)])
def test_wrong_shape(exported, shape):
    with pytest.raises(ValueError, match=r"counts have shape \(.*\); this model takes \(windows, 48\)"):
        exported["patch"].forward(np.zeros(shape, np.int16))


# -- predict


def test_predict_is_forward_in_sensor_units(exported, dataset):
    model = exported["patch"]
    windows = dataset.windows("test", 48, 6)
    values = np.lib.stride_tricks.sliding_window_view(dataset.values, 48)[windows.rows - 48]
    forecast = model.predict(values)
    np.testing.assert_array_equal(forecast, model.forward(windows.counts) * dataset.resolution)
    np.testing.assert_array_equal(model.predict(values[3]), forecast[3])
    assert forecast.dtype == np.float64 and model.predict(list(values[3])).shape == (6,)


def test_predict_rounds_to_counts_half_up():
    """Resolution 0.5: 0.25 is half a count and goes up, -0.25 becomes 0."""
    model = by_hand([[1, 0]], [0], anchor=0, input_shift=15, out_shift=15)
    assert [model.predict([v, 0.0])[0] for v in (0.24, 0.25, -0.25, -0.26, 0.75, -0.75)] == [0, 0.5, 0, -0.5, 1.0, -0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_predict_refuses_missing_values(exported, bad):
    values = np.full((2, 48), 20.0)
    values[1, 3] = bad
    with pytest.raises(ValueError, match="values hold 1 NaN or infinite samples"):
        exported["patch"].predict(values)


@pytest.mark.parametrize("bad", [1e4, -1e4, 16384.0, -16384.5, 1e30, -1e300])
def test_predict_refuses_values_out_of_range_by_name(bad):
    """Resolution 0.5: counts reach from -16384 to 16383.5."""
    model = by_hand([[1, 0]], [0])
    values = np.array([[3.0, 2.0], [bad, 1.0]])
    if abs(bad) == 1e4:
        assert model.predict(values).shape == (2, 1)
    else:
        with (
            np.errstate(invalid="ignore"),
            pytest.raises(ValueError, match=rf"value {bad:g} is outside".replace("+", r"\+")),
        ):
            model.predict(values)
    assert model.predict([-16384.2, 16383.7]).shape == (1,)


def test_predict_refuses_other_shapes(exported):
    for shape in ((47,), (2, 2, 48), ()):
        with pytest.raises(ValueError, match="shape"):
            exported["patch"].predict(np.zeros(shape))


# -- describe, size


def test_size_counts_all_that_is_stored(exported):
    model = exported["patch"]
    linear = [o for o in model.operations if o.kind == "linear"]
    by_layer = 0
    for operation in linear:
        channels, width = model.weight(operation).shape
        by_layer += (channels * width * operation.attributes["weight_bits"] + 7) // 8 + channels * (4 + 2 + 1)
    rest = sum(a.nbytes for name, a in model.arrays.items() if name.rpartition(".")[0] not in {o.path for o in linear})
    assert model.size_bytes == by_layer + rest and len(linear) == 8
    assert {n.rpartition(".")[2] for n in model.arrays} == {
        "weight", "bias", "m", "n", "position", "m1", "m2", "c", "table", "numerator", "k",
    }  # fmt: skip


def test_describe_has_a_line_for_every_operation(exported):
    for model in exported.values():
        lines = model.describe().splitlines()
        assert (
            len(lines) == 1 + len(model.operations)
            and model.name in lines[0]
            and f"{model.size_bytes} bytes" in lines[0]
        )
        for line, operation in zip(lines[1:], model.operations, strict=True):
            assert operation.kind in line and operation.path in line
        assert sum(int(line.split(" B")[0].split()[-1]) for line in lines[1:]) == model.size_bytes


# -- what is refused


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


def changed(model, **arrays):
    """The model with other arrays; dots of their names as double underscores."""
    return replace(model, arrays=model.arrays | {name.replace("__", "."): array for name, array in arrays.items()})


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
        ({"horizon": 3}, r"the output tensor has shape \(1, 2\), the horizon is 3"),
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


def swapped(model, index, **changes):
    """The model with another operation at an index."""
    operations = list(model.operations)
    operations[index] = replace(operations[index], **changes)
    return replace(model, operations=tuple(operations))


def with_identity(model, name):
    """The model with a reshape after a tensor, to the same shape."""
    at = next(i for i, o in enumerate(model.operations) if o.output == name)
    identity = Operation("reshape", "identity", (name,), "identity")
    later = [
        replace(o, inputs=tuple("identity" if n == name else n for n in o.inputs)) for o in model.operations[at + 1 :]
    ]
    operations = (*model.operations[: at + 1], identity, *later)
    return replace(model, operations=operations, tensors=model.tensors | {"identity": model.tensors[name]})


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


def widened(tokens, width, outputs):
    """A program of one linear layer of zeros in two bits."""
    model, code = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0]), (-128, 127, 0)
    shapes = {"source": (tokens * width, 1), "flat": (tokens, width), "head": (tokens, outputs)}
    zeros = {
        "head.weight": np.zeros((width * outputs * 2 + 7) // 8, np.uint8),
        "head.bias": np.zeros(outputs, np.int32),
    }
    head = replace(model.operations[2], attributes={"weight_bits": 2})
    return replace(
        model,
        context=tokens * width,
        operations=(*model.operations[:2], head, model.operations[3]),
        tensors={name: Tensor(shape, *code) for name, shape in shapes.items()},
        arrays=model.arrays | zeros,
    )


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


# -- numpy alone


def test_the_lower_half_runs_on_numpy_alone(exported, extreme_counts, tmp_path):
    """A saved model of each family loads and runs where nothing but numpy can be imported."""
    for family, model in exported.items():
        counts = extreme_counts(model.context)
        model.save(tmp_path / f"{family}.safetensors")
        np.save(tmp_path / f"{family}-counts.npy", counts)
        np.save(tmp_path / f"{family}-forecast.npy", model.forward(counts))
    script = textwrap.dedent("""
        import sys

        class Board:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] not in {*sys.stdlib_module_names, "numpy", "qatlib"}:
                    raise ImportError(f"the board has no {name}")

        sys.meta_path.insert(0, Board())
        import numpy as np
        from qatlib import integer_model

        for family in ("patch", "point", "decoder"):
            model = integer_model.IntegerModel.load(f"{family}.safetensors")
            forecast = model.forward(np.load(f"{family}-counts.npy"))
            assert np.array_equal(forecast, np.load(f"{family}-forecast.npy")), family
            model.predict(np.zeros(model.context)), model.describe()
        for name in ("torch", "pandas", "safetensors", "qatlib.quantised_model.qat", "qatlib.data"):
            try:
                __import__(name)
            except ImportError:
                continue
            raise SystemExit(f"{name} could be imported")
        left = {name.partition(".")[0] for name in sys.modules} & {"torch", "pandas", "safetensors", "scipy"}
        assert not left, left
        print("runs")
    """)
    (tmp_path / "board.py").write_text(script)
    path = {"PYTHONPATH": str(paths.ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "board.py"], cwd=tmp_path, env=path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "runs\n", done.stderr
