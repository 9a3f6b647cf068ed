"""An iCE40's bitstream turned into a netlist again, to be simulated: what routing and packing did to it shows there.

Project IceStorm's icebox (Debian: fpga-icestorm) says which wires the bits connect, which logic cells and block
memories they set. It leaves out the multipliers and single-port memories of an UltraPlus; where their pins and options
lie it knows, so they are put in here. The PLL is taken out: the clock is that of its output, and it is locked at once.
"""

import importlib
import re
import sys
import tempfile
from pathlib import Path

from qatlib.engine import synthesis
from qatlib.engine.synthesis import ice40
from qatlib.system import paths, toolchain
from qatlib.system.toolchain import BuildError

ICEBOX = Path("/usr/share/fpga-icestorm/python")
NET = re.compile(r"^(?:wire|reg) (\w+)", re.MULTILINE)
PORTS = re.compile(r"^module chip \((.*?)\);", re.MULTILINE)
SEGMENT = re.compile(r"^// \((\d+), (\d+), '([^']+)'\)", re.MULTILINE)
PLL = re.compile(r"^SB_PLL40_PAD #\(.*?\) \w+ \((.*?)\);", re.DOTALL | re.MULTILINE)
# Inputs that are high where nothing is connected to them
HIGH = ("CE", "CHIPSELECT", "POWEROFF")
TOP = """module serial_engine (input wire clk, resetn, i_line, output wire o_line, o_busy, o_irq);
  wire busy_n, irq_n;
  assign {o_busy, o_irq} = ~{busy_n, irq_n};
  chip u_chip (.clk_12mhz(clk), .ftdi_tx(i_line), .ftdi_rx(o_line), .led_red_n(busy_n), .led_green_n(irq_n));
endmodule
"""


def require():
    """BuildError where icebox is not installed."""
    if not (ICEBOX / "icebox.py").is_file():
        raise BuildError(f"icebox is missing, which reads bitstreams ({ICEBOX}): apt install fpga-icestorm")


def netlist(board):
    """The bitstream in `overlays/<board>/` as Verilog, with the ports of `serial_engine`, and models of its cells:
    {file: text}. The reset of its own, 65,536 cycles long, is still in it. BuildError where icebox is missing or fails,
    or where the PLL would give another clock than the board's."""
    require()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "top.bin").write_bytes((paths.OVERLAYS / board.name / "engine.bin").read_bytes())
        ice40("iceunpack", folder, "top.bin", "top.asc")
        pins = str(paths.OVERLAYS / board.name / "pins.pcf")
        text = toolchain.run(["icebox_vlog", "-l", "-d", "sg48", "-p", pins, str(folder / "top.asc")])
        chip = _chip(folder / "top.asc")
    if (found := _clock_hz(text, board.oscillator_mhz)) != board.clock_hz:
        raise BuildError(f"{board.name}: by its bits the PLL gives {found:,} Hz, not {board.clock_hz:,}")
    text = PORTS.sub(_declared, PLL.sub(_clocked, text))
    nets = _nets(text)
    cells = [*_memories(chip, nets), *_multipliers(chip, nets)]
    text = text.replace("endmodule", "\n".join([*cells, "endmodule"]))
    return {"chip.v": text, "top.v": TOP, "cells.v": synthesis.cells("ice40")}


def _chip(asc):
    sys.path.append(str(ICEBOX))  # it wants a module beside it
    icebox = importlib.import_module("icebox")
    chip = icebox.iceconfig()
    chip.read_file(str(asc))
    chip.places = icebox.spram_db["5k"]
    return chip


def _clock_hz(text, oscillator_mhz):
    divide = {name: int(bits, 2) for name, bits in re.findall(r"\.DIV([RFQ])\(\d+'b([01]+)\)", text)}
    return round(1e6 * oscillator_mhz * (divide["F"] + 1) / (divide["R"] + 1) / 2 ** divide["Q"])


def _declared(found):
    """Ports apart from what they are: icebox declares those that are registers a second time."""
    ports = found[1].split(", ")
    return f"module chip ({', '.join(port.split()[1] for port in ports)});\n{'; '.join(ports)};"


def _clocked(found):
    ports = dict(re.findall(r"\.(\w+)\((\w+)\)", found[1]))
    return f"assign {ports['PLLOUTGLOBAL']} = clk_12mhz;\nassign {ports['LOCK']} = 1'b1;"


def _nets(text):
    """{(x, y, name of a wire there): net}."""
    found, parts = {}, NET.split(text)
    for net, comments in zip(parts[1::2], parts[2::2], strict=True):
        found |= {(int(x), int(y), name): net for x, y, name in SEGMENT.findall(comments)}
    return found


def _is_set(chip, x, y, name):
    """Whether a bit of an option is set, by the name that icebox gives it."""
    tile = chip.tile(x, y)
    bits = next(entry[0] for entry in chip.tile_db(x, y) if entry[-1] == name)
    return all(tile[int(b[1:].split("[")[0])][int(b.split("[")[1][:-1])] == "1" for b in bits)


def _cell(kind, number, options, pins, nets, outputs):
    """An instance. pins: {name, or name_bit: place of its wire}."""
    widths = {}
    for pin in pins:
        name, _, bit = pin.rpartition("_")
        widths.setdefault(name if bit.isdigit() else pin, []).append(pin)
    ports = []
    for name, bits in widths.items():
        bits = sorted(bits, key=lambda pin: int(pin.rpartition("_")[2]) if pin != name else 0, reverse=True)
        open_ = {pin: f"open_{kind}_{number}_{pin}" if name in outputs else f"1'b{int(name in HIGH)}" for pin in bits}
        ports.append(f".{name}({{{', '.join(nets.get(pins[pin], open_[pin]) for pin in bits)}}})")
    values = ", ".join(f".{name}({value})" for name, value in options.items())
    return f"{kind} {f'#({values}) ' if options else ''}u_{kind}_{number} ({', '.join(ports)});"


def _memories(chip, nets):
    for number, pins in enumerate(chip.places.values()):
        pins = dict(pins)
        if _is_set(chip, *pins.pop("SPRAM_EN")):
            yield _cell("SB_SPRAM256KA", number, {}, pins, nets, ("DATAOUT",))


def _multipliers(chip, nets):
    for number, (x, y) in enumerate(chip.dsp_tiles[0]):
        bits = {name: _is_set(chip, *place) for name, place in chip.get_dsp_config_db(x, y).items()}
        options = {}
        for name, bit in bits.items():
            base, _, place = name.rpartition("_")
            name, value = (base, bit << int(place)) if place in ("0", "1") else (name, int(bit))
            options[name] = options.get(name, 0) + value
        if any(options.values()):
            yield _cell("SB_MAC16", number, options, chip.get_dsp_nets_db(x, y), nets, ("O", "CO"))
