"""The exported model: what it computes, and that it runs with numpy alone."""

import subprocess
import sys
import textwrap
from fractions import Fraction

import numpy as np
import pytest

from qatlib.float_model.config import FAMILIES
from qatlib.system import paths
from tests.integer_model.by_hand import by_hand, expected_by_hand, half_up


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
        anchor = window[-1] if model.channels[0].anchor is None else model.channels[0].anchor
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
