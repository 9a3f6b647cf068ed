"""Buffers: those of the caller are checked before the engine sees them, the driver's own come and go."""

import re

import numpy as np
import pytest
from pynq import allocate

from qatlib.engine import EngineError, isa


def elsewhere(buffer, address):
    """A buffer that is said to lie at another address."""
    moved = buffer[:]
    moved.device_address = address
    return moved


@pytest.mark.parametrize("rows", [0, -1, 65536, True, 2.0])
def test_start_of_no_number_of_windows(engine, buffers, rows, right):
    with pytest.raises(EngineError, match=f"{rows!r} windows in one run; the engine takes 1 to 65535"):
        engine.start(*buffers, rows)
    right()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: b.astype(np.int16), "not copies"),
        (lambda b: b.astype(np.int16)[:], "not copies"),
        (np.array, "takes buffers of pynq.allocate"),
        (lambda b: None, "takes buffers of pynq.allocate"),
        (lambda b: b.view(np.uint16), r"a buffer of uint16 .* needs contiguous int16 \(9 or more, 336\)"),
        (lambda b: b.reshape(-1), "of another layout"),
        (lambda b: b[:, :-4], "of another layout"),
        (lambda b: b[::-1], "of another layout"),
        (lambda b: allocate((9, 340), np.int16, target=b.device), "of another layout"),
        (lambda b: allocate((8, 336), np.int16, target=b.device), "too short"),
    ],
)
def test_start_on_what_is_no_buffer_of_the_model(engine, windows, buffers, change, message, right):
    with pytest.raises(EngineError, match=message):
        engine.start(change(buffers[0]), buffers[1], len(windows))
    assert str(engine.status) == "status: idle"
    right()


def test_start_on_a_freed_buffer(engine, windows, buffers, right):
    buffer = allocate((9, 336), np.int16, target=engine.device)
    view = buffer[:]
    buffer.freebuffer()
    for freed in (buffer, view):
        with pytest.raises(EngineError, match="nor freed ones"):
            engine.start(freed, buffers[1], len(windows))
    right()


def test_buffers_stay_until_the_run_is_over(engine, patch_model, windows):
    def started():
        inputs, outputs = (allocate((9, n), np.int16, target=engine.device) for n in (336, 24))
        inputs[:] = windows
        engine.start(inputs, outputs, len(windows))
        return outputs

    outputs = started()
    engine.wait()
    np.testing.assert_array_equal(outputs, patch_model.forward(windows))


def test_closed_engine_takes_new_buffers(engine, right):
    right()
    engine.close()
    right()


@pytest.mark.parametrize("short", [0, 1])
def test_short_buffer(engine, windows, buffers, short, right):
    cut = [buffer[: len(windows) - 1] if i == short else buffer for i, buffer in enumerate(buffers)]
    with pytest.raises(EngineError, match="too short") as caught:
        engine.start(*cut, len(windows))
    assert caught.value.cause == 4 and str(engine.status) == "status: idle"
    right()


@pytest.mark.parametrize("address", [1 << 32, (1 << 32) - 4096, 0x1000_0004])
def test_buffer_that_the_engine_cannot_address(engine, windows, buffers, address, right):
    with pytest.raises(EngineError, match=f"0x{address:X}"):
        engine.start(elsewhere(buffers[0], address), buffers[1], len(windows))
    right()


@pytest.mark.parametrize("which, cause", [(0, 5), (1, 6)], ids=["read", "write"])
def test_bus_error(engine, windows, buffers, which, cause, right):
    engine.start(
        *[elsewhere(buffer, 0x8000_0000) if i == which else buffer for i, buffer in enumerate(buffers)], len(windows)
    )
    with pytest.raises(EngineError, match=re.escape(isa.CAUSES[cause])) as caught:
        engine.wait()
    assert caught.value.cause == cause
    right()
