"""Instructions by operations: all of a forecast's, and each where it belongs."""

import pytest

from qatlib.device import shipped
from qatlib.make import by_operation, kernels_beside
from qatlib.mcu import emulate
from tests import several_channels

NAME = "patch-c336-d16-w4a4"


@pytest.mark.parametrize("target", emulate.TARGETS)
def test_parts_sum_to_the_whole(target):
    model = shipped.load("etth1", NAME)
    windows = shipped.reference_windows("etth1", model)[:1]
    parts = by_operation.counted(model, target, windows[0])
    (whole,) = emulate.Firmware(model, target).run(windows).instructions
    assert sum(count for _, _, count in parts) == pytest.approx(whole, rel=2e-3)  # the marks' own instructions
    assert all(count > 0 for paths, _, count in parts if paths)


@pytest.mark.parametrize("target", emulate.TARGETS)
def test_every_product_is_counted_once(target):
    """None takes less than half an instruction a multiply-accumulate, and all together are those of the model."""
    model = shipped.load("etth1", NAME)
    rows = kernels_beside.ours(model, target)
    layers = [layer for row in rows for layer in row[5].split(" + ")]
    assert sorted(layers) == sorted(product.layer for product in kernels_beside.products(model))
    assert sum(row[7] for row in rows) == emulate.multiply_accumulates(model)
    assert all(row[-1] > 0.5 for row in rows)


def test_calls_go_to_the_operations_that_they_name():
    model = shipped.load("etth1", "decoder-c336-d16-w4a4")
    parts = by_operation.counted(model, "rv32imc", shipped.reference_windows("etth1", model)[0])
    named = [path for paths, _, _ in parts for path in paths]
    assert {o.path for o in model.operations if o.kind in ("linear", "scores", "softmax", "context")} <= set(named)


def test_a_program_that_is_a_loop_is_refused():
    model = several_channels.MODELS["seven independent"]
    with pytest.raises(emulate.EmulationError, match="give a model of one channel"):
        by_operation.counted(model, "rv32imc", several_channels.windows(model, 1, 1)[0])


@pytest.mark.parametrize("given", ["", "/nowhere"])
def test_a_missing_checkout_is_named(monkeypatch, given):
    monkeypatch.setenv("CMSIS_NN", given)
    with pytest.raises(SystemExit, match=r"^CMSIS_NN is .*clone CMSIS-NN with git"):
        kernels_beside.main()
