"""The Tcl of the overlays, as far as tclsh and a stub of Vivado's commands can tell; what surrounds it in Python."""

import os
import re
import shutil
import subprocess

import pytest

from qatlib.engine import bitstream, hwh, isa, vivado
from qatlib.system.paths import OVERLAYS, ROOT

needs_tclsh = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is missing")


@pytest.fixture
def run(tmp_path):
    """board, STUB_ANSWERS -> (finished process, its calls as lists of words)."""

    def build(board, answers=""):
        vivado.write_sources(tmp_path / "sources", isa.CONFIGS[board])
        command = [
            "tclsh",
            ROOT / "tests" / "engine" / "vivado_stub.tcl",
            OVERLAYS / "build.tcl",
            board,
            tmp_path / "sources",
            tmp_path,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, "STUB_ANSWERS": answers}
        )
        return done, [line.split("\t") for line in done.stdout.splitlines()]

    return build


def named(calls, name):
    return [call[1:] for call in calls if call[0] == name]


def addresses(calls):
    """{segment: (offset, range)}; the segment is what the call before assign_bd_address looked up."""
    lines = [" ".join(call) for call in calls]
    text = "\n".join(lines)
    found = re.findall(r"get_bd_addr_segs (\S+)\nassign_bd_address -offset (\S+) -range (\S+)", text)
    return {segment: (int(offset, 16), size) for segment, offset, size in found}


@needs_tclsh
@pytest.mark.parametrize("board, part", [("pynq-z2", "xc7z020clg400-1"), ("kv260", "xck26-sfvc784-2LV-c")])
def test_script_runs_to_its_end(run, board, part, tmp_path):
    done, calls = run(board)
    assert done.returncode == 0, done.stderr
    assert {call[call.index("-part") + 1] for call in named(calls, "create_project")} == {part}
    assert [len(named(calls, name)) for name in ("validate_bd_design", "launch_runs", "report_power")] == [1, 1, 1]
    assert all((tmp_path / name).is_file() for name in (bitstream.BIT, bitstream.HWH))
    assert [hwh.VLNV, hwh.INSTANCE] in [call[3:] for call in named(calls, "create_bd_cell")]


@needs_tclsh
def test_addresses_and_clock_are_those_of_the_metadata(run):
    _, calls = run("pynq-z2")
    found = addresses(calls)
    assert found["engine_0/s_axi/reg0"] == (hwh.BASE, "1M") and hwh.SIZE == 1 << 20
    assert found["intc_0/S_AXI/Reg"] == (hwh.INTERRUPTS_BASE, "64K") and hwh.INTERRUPTS_SIZE == 1 << 16
    (settings,) = [call[1] for call in named(calls, "set_property") if "PCW_FPGA0" in "".join(call)]
    assert f"CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ {hwh.CLOCK_MHZ:g}" in settings
    assert "ps/IRQ_F2P" in [call[1] for call in named(calls, "connect_bd_net")]


@needs_tclsh
def test_every_register_is_described(run):
    _, calls = run("kv260")
    assert [call[0] for call in named(calls, "ipx::add_register")] == [name for name, *_ in isa.REGISTERS]
    assert [call[0] for call in named(calls, "ipx::add_field")] == [
        field for _, _, _, fields, _ in isa.REGISTERS for field, _ in fields
    ]
    offsets = [int(call[1], 16) for call in named(calls, "set_property") if call[0] == "address_offset"]
    assert offsets == [offset for _, offset, *_ in isa.REGISTERS]


@needs_tclsh
@pytest.mark.parametrize(
    "answers, message", [("SLACK -0.5", "too fast by 0.5 ns"), ("PROGRESS 80%", "implementation stopped")]
)
def test_script_stops_where_vivado_did_not_succeed(run, answers, message, tmp_path):
    done, _ = run("pynq-z2", answers)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / bitstream.BIT).exists()


@needs_tclsh
@pytest.mark.parametrize(
    "line",
    ["conect_bd_net a b", "get_bd_pins engine_0/clk", "report_power -out x", "create_bd_cell -type ip -vlnv a:b:c x"],
)
def test_stub_refuses_what_vivado_would(tmp_path, line):
    script = tmp_path / "script.tcl"
    script.write_text(f"create_bd_cell -type ip -vlnv {hwh.VLNV} engine_0\n{line}\n")
    done = subprocess.run(
        ["tclsh", ROOT / "tests" / "engine" / "vivado_stub.tcl", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert re.search("no command|no pin|no option|no block", done.stderr)


def test_wrapper_has_every_port_and_parameter_of_the_engine():
    text = vivado._top(isa.CONFIGS["pynq-z2"])
    ports = re.findall(r"^    .*?(?:input|output) wire (?:\[[\d:]+\] )?(\w+),?$", text, re.MULTILINE)
    connected = re.findall(r"\.(\w+)\(\1\)", text)
    assert ports == connected
    assert {"aclk", "aresetn", "irq", "s_axi_awaddr", "m_axi_bready"} < set(ports)
    parameters = dict(re.findall(r"\.([A-Z_]+)\(32'd(\d+)\)", text))
    assert {name: int(value) for name, value in parameters.items()} == isa.CONFIGS["pynq-z2"].parameters


def test_without_vivado_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert vivado.main(["pynq-z2"]) == 1
    message = capsys.readouterr().err
    assert "vivado is missing" in message and "make overlay BOARD=pynq-z2" in message


def test_unknown_board(capsys):
    assert vivado.main(["zedboard"]) == 2
    assert "kv260, pynq-z2" in capsys.readouterr().err


def test_build_keeps_files_reports_and_checksums(monkeypatch, tmp_path):
    monkeypatch.setattr(vivado, "BUILD", tmp_path / "build")
    monkeypatch.setattr(vivado, "OVERLAYS", tmp_path / "overlays")
    target, folder = tmp_path / "overlays" / "pynq-z2", tmp_path / "build" / "vivado" / "pynq-z2"
    target.mkdir(parents=True)
    (target / "board.tcl").touch()
    tool = tmp_path / "bin" / "vivado"  # leaves what Vivado would
    tool.parent.mkdir()
    hwh.write(tmp_path / "engine.hwh")
    names = " ".join(vivado.REPORTS)
    tool.write_text(
        f"#!/bin/sh\ncd {folder} && echo bits > engine.bit && touch {names} && cp {tmp_path}/engine.hwh .\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    assert vivado.main(["pynq-z2"]) == 0
    bitstream.check(target)
    assert all((target / name).is_file() for name in vivado.REPORTS)
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert vivado.main(["pynq-z2"]) == 1
