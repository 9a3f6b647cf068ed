"""The bitstream that is committed is of these sources and tools; what it was not made of is refused, and so is a slow
one."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from qatlib.engine import isa, lattice, serial_line
from qatlib.make import flash
from qatlib.system import paths
from qatlib.system.toolchain import BuildError

BOARDS = serial_line.BOARDS.values()
ULX3S = serial_line.BOARDS["ulx3s"]


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    """A copy of the overlays, for changes. -> the folder of the ULX3S in it."""
    shutil.copytree(paths.OVERLAYS, tmp_path / "overlays", ignore=shutil.ignore_patterns("models"))
    monkeypatch.setattr(paths, "OVERLAYS", tmp_path / "overlays")
    return tmp_path / "overlays" / "ulx3s"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_committed_bitstreams_are_of_what_is_here(board):
    facts = lattice.check(board)
    assert facts["configuration"] == board.config and facts["clock_mhz"] < facts["routed_mhz"]
    assert all(used <= facts["of"][name] for name, used in facts["used"].items())


def test_another_bitstream_or_other_sources_are_refused(overlay):
    lattice.check(ULX3S)
    (overlay / "pins.lpf").write_text("# other pins\n")
    with pytest.raises(ValueError, match=r"was made of other sources .* make overlay BOARD=ulx3s"):
        lattice.check(ULX3S)
    (overlay / "engine.bit").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"engine.bit is not the file recorded in engine.json"):
        lattice.check(ULX3S)
    (overlay / "engine.bit").unlink()
    with pytest.raises(FileNotFoundError, match=r"engine.bit is missing; make it"):
        lattice.check(ULX3S)


def test_made_again_once_and_compared(overlay, monkeypatch):
    facts, made = lattice.check(ULX3S), []
    (overlay / lattice.AGAIN).unlink(missing_ok=True)
    monkeypatch.setattr(lattice, "made", lambda board: made.append(board) or (b"", facts))
    assert lattice.again(ULX3S) == lattice.again(ULX3S) == facts and made == [ULX3S]
    (overlay / lattice.AGAIN).write_text("{}")
    monkeypatch.setattr(lattice, "made", lambda board: (b"", facts | {"sha256": "another"}))
    with pytest.raises(ValueError, match="what is made here is not the bitstream that is there"):
        lattice.again(ULX3S)


def test_a_clock_that_is_not_reached_or_a_wire_that_is_not_packed_is_an_error(monkeypatch):
    cells = {cell: {"used": 1, "available": 2} for cell in lattice.family(ULX3S).cells.values()}
    report = {"utilization": cells, "fmax": {"fast": {"achieved": 100.0}, "slow": {"achieved": 66.0}}}

    routed = {"top": "11", "back": "11"}

    def tool(name, folder, *arguments):
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "top.bit").write_bytes(b"bits")
        (folder / "top.json").write_text('{"modules": {"top": {"cells": {}}}}')
        for side, source in routed.items():
            (folder / f"{side}.config").write_text(f".tile A\narc: X {source}\narc: JA JB\nword: T 1{source}\n")

    monkeypatch.setattr(lattice, "yosys", lambda commands, folder: None)
    monkeypatch.setattr(lattice, "ecp5", tool)
    with pytest.raises(BuildError, match=r"the routed clock is 66.0 MHz, below the 66.7 MHz"):
        lattice.made(ULX3S)
    bit, facts = lattice.made(replace(ULX3S, pll=(5, 12, 10)))
    assert bit == b"bits" and facts["routed_mhz"] == 66 and facts["clock_mhz"] == 60
    routed["back"] = "10"
    with pytest.raises(BuildError, match=r"tile A, arc: X: routed as 11, in the bitstream as 10"):
        lattice.made(replace(ULX3S, pll=(5, 12, 10)))


def test_bits_of_an_ice40_that_are_not_those_routed_are_an_error(tmp_path, monkeypatch):
    routed = ".comment made\n.device 5k\n\n.logic_tile 1 2\n0010\n0000\n.ram_data 3 4\n00ff\n.sym 1 name\n"
    (tmp_path / "top.asc").write_text(routed)
    back = routed.replace("made", "read back").replace(".sym 1 name\n", ".io_tile 0 0\n0000\n")
    monkeypatch.setattr(lattice, "ice40", lambda *_: (tmp_path / "back.asc").write_text(back))
    lattice._ice40_packed(tmp_path, [])
    back = back.replace("0010", "0110")
    with pytest.raises(BuildError, match="logic_tile 1 2: the bitstream does not hold what was routed"):
        lattice._ice40_packed(tmp_path, [])


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_boards_package_holds_its_configuration(board):
    package = board.package()
    for name, value in isa.ALL_CONFIGS[board.config].parameters.items():
        assert f" {name} = 32'd{value};" in package
    assert f" CLOCKS = 32'd{board.clocks};" in package and " SIMULATED = 32'd0;" in package
    assert " SIMULATED = 32'd1;" in board.package(simulated=True)
    assert abs(board.clock_hz / board.clocks / serial_line.BAUD - 1) < 0.02  # what a serial line bears


def test_flash_says_what_is_missing(monkeypatch, capsys, tmp_path):
    assert flash.main(["pynq-z2"]) == 2 and "give a board with a serial port: ulx3s" in capsys.readouterr().err
    monkeypatch.setattr(flash.shutil, "which", lambda name: None)
    assert flash.main(["ulx3s"]) == 1 and "openFPGALoader is missing" in capsys.readouterr().err
    monkeypatch.setattr(flash.shutil, "which", lambda name: name)
    called = []

    def run(command, **options):
        called.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(flash.subprocess, "run", run)
    assert flash.main(["ulx3s"]) == 0
    assert called == [["openFPGALoader", "--board", "ulx3s", str(paths.OVERLAYS / "ulx3s" / "engine.bit")]]
    monkeypatch.setattr(flash.lattice, "check", lambda board: (_ for _ in ()).throw(ValueError("of other sources")))
    assert flash.main(["ulx3s"]) == 1 and len(called) == 1
