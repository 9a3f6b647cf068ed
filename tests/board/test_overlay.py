"""The overlay that is opened is the right one, and what is downloaded over it later is noticed."""

from dataclasses import replace
from functools import partial

import pytest

from qatlib.board import open_engine, overlay, sim_device
from qatlib.engine import EngineError, bitstream, compile, hwh, isa, simulation
from qatlib.engine.rtl import Rtl
from qatlib.system import paths
from tests.board.conftest import CONFIG, OTHER


def test_bad_arguments_are_named(engine, windows):
    with pytest.raises(EngineError, match="no configuration 'zedboard'; choose one of xc7s15, pynq-z2, kv260"):
        open_engine(config="zedboard")
    with pytest.raises(EngineError, match=r"no configuration \['xc7s15'\]"):
        open_engine(config=[CONFIG])


@pytest.mark.parametrize("name, value, message", [("ID", 0x1234, "identifies no engine"), ("VERSION", 99, "drives 99")])
def test_wrong_bitstream_by_its_registers(engine, monkeypatch, name, value, message):
    monkeypatch.setattr(isa, name, value)
    with pytest.raises(EngineError, match=f"wrong bitstream: .*{message}"):
        engine._identify()


def test_wrong_bitstream_by_its_configuration(engine, monkeypatch):
    monkeypatch.setattr(isa, "ALL_CONFIGS", {"other": replace(isa.CONFIGS[CONFIG], rows=99)})
    with pytest.raises(EngineError, match=r"wrong bitstream: configuration 0x[0-9A-F]{8} is none of other"):
        engine._identify()


def test_bitstream_of_another_board(monkeypatch):
    folder = sim_device.write_overlay(isa.CONFIGS[CONFIG])
    monkeypatch.setattr(sim_device, "write_overlay", lambda config: folder)
    with pytest.raises(EngineError, match=r"wrong bitstream: it holds the configuration xc7s15, .* should hold kv260"):
        open_engine(config="kv260")


@pytest.mark.parametrize("name", [bitstream.BIT, bitstream.HWH])
def test_file_that_is_not_the_recorded_one(monkeypatch, tmp_path, name):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    folder = sim_device.write_overlay(isa.CONFIGS[CONFIG])
    (folder / name).write_text((folder / name).read_text() + " ")
    with pytest.raises(EngineError, match=f"wrong bitstream: .*{name} is not the file recorded"):
        open_engine(config=CONFIG)


@pytest.fixture
def board(monkeypatch, tmp_path):
    """As on a PYNQ-Z2, until the overlay is downloaded."""
    monkeypatch.setattr(overlay, "_on_board", lambda: True)
    monkeypatch.setattr(paths, "OVERLAYS", tmp_path)
    monkeypatch.setenv("BOARD", "Pynq-Z2")
    return tmp_path / "pynq-z2"


def test_board_without_a_bitstream(board):
    with pytest.raises(
        FileNotFoundError, match=r"engine.bit is missing, and ships with no release: .*make overlay BOARD=pynq-z2"
    ):
        open_engine()


def test_board_checks_the_pair_before_download(board, monkeypatch):
    board.mkdir()
    hwh.write(board / bitstream.HWH)
    (board / bitstream.BIT).write_text("bits")
    bitstream.record(board)
    (board / bitstream.BIT).write_text("other bits")
    monkeypatch.setattr(overlay, "Overlay", None)
    with pytest.raises(EngineError, match="wrong bitstream"):
        open_engine()


def test_board_without_an_overlay(board, monkeypatch):
    monkeypatch.setenv("BOARD", "ZCU104")
    with pytest.raises(FileNotFoundError, match="no overlay for board 'ZCU104'"):
        open_engine()


def test_a_driver_refuses_where_another_configuration_was_downloaded(engine, patch_model, windows, buffers, right):
    open_engine(config=OTHER)
    again = rf"another overlay was downloaded: .*{OTHER}-.*engine.bit, not xc7s15; call open_engine again"
    for call in (
        engine.reset,
        engine.wait,
        partial(engine.run, windows),
        partial(engine.load, patch_model),
        partial(engine.start, *buffers, 9),
    ):
        with pytest.raises(EngineError, match=again):
            call()
    open_engine(config=CONFIG)
    right()


def test_a_driver_refuses_where_another_process_downloaded_another_configuration(engine, patch_model, windows):
    engine.device.rtl = Rtl(isa.CONFIGS[OTHER])
    for call in (engine.reset, engine.wait, partial(engine.run, windows), partial(engine.load, patch_model)):
        with pytest.raises(
            EngineError, match=f"another overlay was downloaded: {OTHER}, not xc7s15; call open_engine again"
        ):
            call()


def test_a_driver_refuses_where_no_engine_is_left(engine, windows, monkeypatch):
    monkeypatch.setattr(isa, "ID", 0x1234)
    with pytest.raises(
        EngineError, match=r"downloaded: wrong bitstream: 0x71A711B0 at address .* call open_engine again"
    ):
        engine.run(windows)


def test_the_model_is_written_again_where_the_configuration_was_downloaded_anew(engine, right):
    engine.overlay.download()
    right()
    open_engine(config=CONFIG)
    right()


def test_the_model_is_written_again_where_another_process_ran_its_own(engine, point_model, windows, right):
    program = compile(point_model, isa.CONFIGS[CONFIG])
    simulation.load(engine.device.rtl, program)
    simulation.run(engine.device.rtl, program, windows[:, :12].copy())
    right()


def test_a_download_in_mid_run(engine, windows, buffers, right):
    engine.start(*buffers, len(windows))
    open_engine(config=CONFIG)
    with pytest.raises(EngineError, match="the run is lost"):
        engine.wait()
    right()
