"""`python -m qatlib.engine.vivado pynq-z2`: the overlay of a board, by Vivado in batch. It has never been run: no
Vivado was at hand.

Writes engine.bit, engine.hwh, engine.sha256 and reports of utilisation, timing and power to overlays/<board>/.
"""

import re
import shutil
import subprocess
import sys

from qatlib.engine import bitstream, hwh, isa, rtl
from qatlib.system.paths import BUILD, OVERLAYS

REPORTS = ("utilisation.txt", "timing.txt", "power.txt")
INTERFACES = {
    "aclk": '(* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF s_axi:m_axi, ASSOCIATED_RESET aresetn" *) ',
    "irq": (
        '(* X_INTERFACE_INFO = "xilinx.com:signal:interrupt:1.0 irq INTERRUPT", X_INTERFACE_PARAMETER = '
        '"SENSITIVITY LEVEL_HIGH" *) '
    ),
}


def boards():
    return sorted(path.parent.name for path in OVERLAYS.glob("*/board.tcl"))


def write_sources(folder, config):
    """What build.tcl reads: the design, engine_top.v around it, which fixes the configuration, and registers.tcl."""
    shutil.rmtree(folder, ignore_errors=True)
    rtl.write_sources(folder)
    (folder / "engine_top.v").write_text(_top(config))
    (folder / "registers.tcl").write_text("\n".join(map(_register, isa.REGISTERS)) + "\n")


def _top(config):
    """Verilog, since the IP packager takes no SystemVerilog at the top."""
    ports = re.findall(r"^\s*(input|output) +wire +(\[[\d:]+\])? *(\w+)", rtl.sources()["engine.sv"], re.MULTILINE)
    declared = ",\n".join(
        f"    {INTERFACES.get(name, '')}{way} wire {width} {name}".replace("wire  ", "wire ")
        for way, width, name in ports
    )
    parameters = ", ".join(f".{name}(32'd{value})" for name, value in config.parameters.items())
    connected = ", ".join(f".{name}({name})" for _, _, name in ports)
    head = f"// Made by qatlib.engine.vivado: the configuration {config.name}.\nmodule engine_top (\n{declared}\n);\n"
    return f"{head}  engine #({parameters}) u_engine ({connected});\nendmodule\n"


def _register(row):
    name, offset, access, fields, text = row
    starts = [sum(bits for _, bits in fields[:i]) for i in range(len(fields))]
    listed = " ".join(f"{field} {start} {bits}" for start, (field, bits) in zip(starts, fields))
    return f"register {name} 0x{offset:02X} {hwh.ACCESS[access]} {{{text}}} {{{listed}}}"


def build(board):
    """Run Vivado, and keep what it made in overlays/<board>/. RuntimeError where it fails or makes something else."""
    folder, target = BUILD / "vivado" / board, OVERLAYS / board
    write_sources(folder / "sources", isa.CONFIGS[board])
    command = [
        "vivado",
        "-mode",
        "batch",
        "-nojournal",
        "-log",
        folder / "vivado.log",
        "-source",
        OVERLAYS / "build.tcl",
        "-tclargs",
    ]
    done = subprocess.run([*map(str, command), board, str(folder / "sources"), str(folder)], cwd=folder, check=False)
    if done.returncode:
        raise RuntimeError(f"Vivado failed: see {folder / 'vivado.log'}")
    hwh.check(folder / bitstream.HWH)
    for name in (bitstream.BIT, bitstream.HWH, *REPORTS):
        shutil.copy(folder / name, target)
    bitstream.record(target)


def main(arguments):
    """-> the exit status."""
    board = arguments[0] if len(arguments) == 1 else None
    if board not in boards():
        print(f"give a board: {', '.join(boards())}", file=sys.stderr)
        return 2
    if shutil.which("vivado") is None:
        print(
            "vivado is missing: a bitstream needs AMD's Vivado, which no package index holds. Install it, source "
            "its settings64.sh, and "
            f"call this again: make overlay BOARD={board}",
            file=sys.stderr,
        )
        return 1
    try:
        build(board)
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{OVERLAYS / board}: {bitstream.BIT}, {bitstream.HWH}, {bitstream.SHA256}, {', '.join(REPORTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
