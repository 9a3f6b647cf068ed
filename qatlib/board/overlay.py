"""`open_engine` finds the engine's overlay, on a board or as simulated RTL where there is none, and downloads it."""

import os
import warnings
from pathlib import Path

from pynq import Overlay
from pynq.pl_server.device import Device
from pynq.pl_server.embedded_device import EmbeddedDevice

from qatlib.board import sim_device
from qatlib.board.control import TIMEOUT, shared
from qatlib.board.driver import Engine
from qatlib.engine import bitstream, hwh, isa
from qatlib.engine import serial_line as line
from qatlib.engine.registers import EngineError
from qatlib.system import paths


def open_engine(*, config="pynq-z2", port=None) -> Engine:
    """The driver of the engine, identified and ready for `load`.

    port: the serial port of a board that has its bitstream, such as "/dev/ttyUSB0" or "COM3"; "auto" where one is
    plugged in; "simulated" for its RTL, line included; by default $QATLIB_PORT. Where that is not set either, on a
    board of PYNQ's, `overlays/<board>/engine.bit` is downloaded; elsewhere the RTL of `config` (a name in isa.CONFIGS)
    is simulated.

    EngineError for a bitstream that is not what was recorded, or not this qatlib's, and where nothing of ours answers;
    FileNotFoundError where there is none. Drivers and threads of one process share an engine, a batch at a time, each
    with its own model; two processes must not. A driver whose overlay another one of another configuration has replaced
    refuses to run.
    """
    if port := port or os.environ.get("QATLIB_PORT"):
        return _open_at(port)
    if not isinstance(config, str) or config not in isa.CONFIGS:
        raise EngineError(f"no configuration {config!r}; choose one of {', '.join(isa.CONFIGS)}")
    if _on_board():
        config = _board_name()
        folder, device = paths.OVERLAYS / config, Device.active_device
    else:
        folder, device = sim_device.write_overlay(isa.CONFIGS[config]), sim_device.SimDevice.activate()
    try:
        bitstream.check(folder)
    except ValueError as error:
        raise EngineError(f"wrong bitstream: {error}") from None
    with shared(device).turns.taken(f"opening {config}", TIMEOUT):
        overlay = Overlay(str(folder / bitstream.BIT), device=device)
        shared(device).under_way = None  # whatever it was
        engine = getattr(overlay, hwh.INSTANCE)  # pynq makes it, of the class that is bound to its kind
    if engine.config.name != config:
        raise EngineError(
            f"wrong bitstream: it holds the configuration {engine.config.name}, {folder} should hold {config}"
        )
    engine.overlay = overlay  # as long as the driver lives
    return engine


def _open_at(port):
    from qatlib.board import serial_device  # which wants pyserial: a board of PYNQ's has none

    device = serial_device.connect(port)
    try:
        registers = sim_device.described(sim_device.write_overlay(isa.ALL_CONFIGS[device.board.config])).ip_dict[
            hwh.INSTANCE
        ]
        place = {"device": device, "phys_addr": line.address("engine"), "interrupts": {}}
        engine = Engine({**registers, **place})
        if engine.config.name != device.board.config:
            raise EngineError(
                f"wrong bitstream: {device.board.name} should hold {device.board.config}, not {engine.config.name}"
            )
    except BaseException:
        device.release()
        raise
    return engine


def _on_board():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no device was found
        return any(isinstance(device, EmbeddedDevice) for device in Device.devices)


def _board_name():
    """The folder of this board's overlay: `pynq-z2` or `kv260`; PYNQ's images name the board in $BOARD and in the
    device tree."""
    tree = Path("/proc/device-tree/chosen/pynq_board")
    name = os.environ.get("BOARD") or (tree.read_text().rstrip("\0\n") if tree.is_file() else "")
    if name.lower() not in isa.CONFIGS:
        raise FileNotFoundError(f"no overlay for board {name!r}: set BOARD to one of {', '.join(isa.CONFIGS)}")
    return name.lower()
