"""`python -m qatlib.engine.synthesis xc7s15`: what the engine costs, without a vendor's tools. All of it is cached by
content.

`synthesise` counts the cells of the netlist that Yosys maps for a Xilinx device; `place_and_route` is a real post-route
clock, on a Lattice ECP5; `netlist` is the mapped engine as Verilog, for a simulation of the gates.
"""

import hashlib
import json
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from qatlib.engine import isa, rtl
from qatlib.system.toolchain import BuildError, run

# LUTs that a cell takes in a slice. An inverter that is left sits in front of a carry chain, where only a LUT can be.
LUTS = {"INV": 1, "SRL16E": 1, "SRLC32E": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4}
LUTS |= {"RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8}
LUTS |= {f"LUT{inputs}": 1 for inputs in range(1, 7)}


@dataclass(frozen=True)
class Device:
    """What there is to be used; block memories in units of 36 Kbit."""

    name: str
    family: str  # as Yosys calls it
    lut: int
    ff: int
    dsp: int
    bram36: float


DEVICES = {
    "xc7s15": Device("XC7S15", "xc7", 8_000, 16_000, 20, 10),
    "pynq-z2": Device("XC7Z020", "xc7", 53_200, 106_400, 220, 140),
    "kv260": Device("XCK26", "xcup", 117_120, 234_240, 1_248, 144),
    "ecp5-25k": Device("LFE5U-25F, speed grade 6", "ecp5", 24_288, 24_288, 28, 28),
}


@dataclass(frozen=True)
class Report:
    """What a netlist uses. lut: every LUT cell counts as one (a vendor packs some in pairs), and so does what memories
    and delays take."""

    lut: int
    ff: int
    dsp: int
    bram36: float
    fmax_mhz: float | None = None

    def against(self, device):
        """{resource: (used, there is, fraction)}."""
        used = {name: (value, getattr(device, name)) for name, value in asdict(self).items() if name != "fmax_mhz"}
        return {name: (value, limit, value / limit) for name, (value, limit) in used.items()}

    def fits(self, device):
        return all(fraction <= 1 for _, _, fraction in self.against(device).values())


def count(cells):
    """{type of a Xilinx cell: how many} -> Report. KeyError for a memory that LUTS does not know."""
    made_of_luts = [name for name in cells if name in LUTS or re.match(r"RAM\d|SRL|LUT", name)]
    return Report(
        lut=sum(LUTS[name] * cells[name] for name in made_of_luts),
        ff=sum(n for name, n in cells.items() if re.match(r"FD[RSCP]E", name)),
        dsp=sum(n for name, n in cells.items() if name.startswith("DSP48")),
        bram36=sum(n / (2 if "18" in name else 1) for name, n in cells.items() if name.startswith("RAMB")),
    )


def _models(vendor):
    """The file of what a vendor's cells do."""
    return Path(util.find_spec("pyosys").origin).parent / "share" / vendor / "cells_sim.v"


def cells(vendor):
    """What a vendor's cells do, as one text of Verilog."""
    models = _models(vendor)
    files = [*sorted(models.parent.glob("*_sim.vh")), models]
    text = re.sub(r"^`include.*", "", "\n".join(file.read_text() for file in files), flags=re.MULTILINE)
    return re.sub(r"\bspecify\b.*?\bendspecify\b", "", text, flags=re.DOTALL)  # delays


def _python(module, program, *arguments, **options):
    """A program in a process of its own, so that neither a crash nor the noise of a tool gets here. BuildError where it
    fails."""
    if util.find_spec(module) is None:
        raise BuildError(f"{module} is missing: pip install {module.replace('_', '-')}")
    return run([sys.executable, "-c", program, *map(str, arguments)], **options)


def yosys(commands, folder):
    """Run commands of Yosys in a folder. BuildError says what Yosys found wrong."""
    program = (
        "import sys\nfrom pyosys import libyosys as y\ndesign = y.Design()\nfor line in sys.stdin: "
        "y.run_pass(line.strip(), design)"
    )
    try:
        _python("pyosys", program, cwd=folder, input="\n".join(commands))
    except BuildError as error:
        found = re.search(r"^.*\bERROR: ?(.*\n?.*)", str(error), re.MULTILINE)
        raise BuildError(f"Yosys: {found[0].strip()}" if found else str(error)) from None


def _read(texts, parameters, top):
    given = "".join(f" -chparam {name} {value}" for name, value in parameters.items())
    return [f"read_verilog -sv -defer {' '.join(texts)}", f"hierarchy -check -top {top}{given}"]


def _xilinx(family, steps):
    return f"synth_xilinx -family {family} -top engine -flatten -noiopad -noclkbuf -run {steps}"


# What synth_xilinx does next, but with every LUT at the same cost: Yosys prefers small ones, which can share a place,
# and makes 4 % more.
MAP_LUTS = ["opt_expr -mux_undef -noclkinv", "abc9 -luts 1,1,1,1,1,1", "clean", "xilinx_srl -fixed -minlen 3"]
MAP_LUTS += [
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
    "xilinx_dffopt",
    "opt_lut_ins -tech xilinx",
    "clean",
]


def _cached(name, commands, texts, make):
    """The file `name`, with the hash of all it comes from in its name; `make(folder)` returns its text, in a folder
    that holds `texts`."""
    key = hashlib.sha256(repr((commands, texts, metadata.version("pyosys"))).encode()).hexdigest()[:16]
    path = rtl.CACHE / (f"-{key}.".join(name.rsplit(".", 1)))
    if not path.exists():
        rtl.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=rtl.CACHE, prefix=".build-") as folder:
            for source, text in texts.items():
                (Path(folder) / source).write_text(text)
            (Path(folder) / "made").write_text(make(Path(folder)))
            (Path(folder) / "made").replace(path)
    return path


def synthesise(config, device=None):
    """Area of a configuration on its own device, or on another Xilinx one (a key of DEVICES). -> Report"""
    texts, family = rtl.sources(), DEVICES[device or config.name].family
    commands = [
        *_read(texts, config.parameters, "engine"),
        _xilinx(family, ":map_luts"),
        *MAP_LUTS,
        "tee -q -o stat.json stat -json",
    ]

    def make(folder):
        yosys(commands, folder)
        cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
        return json.dumps(cells, indent=1)

    return count(json.loads(_cached(f"area-{config.name}-{family}.json", commands, texts, make).read_text()))


def netlist(config):
    """The mapped engine as Verilog, and the models of its cells: `rtl.Rtl(config, netlist=netlist(config))` simulates
    the gates.

    LUTs, carry chains, registers, DSP blocks and LUT memories are what `synthesise` counts. Block memories stay arrays,
    since Yosys has no model of their cells.
    """
    texts, others = rtl.sources(), "t:$mem_v2 a:ram_style=block %d a:rom_style=block %d"
    small = [f"memory_libmap -lib +/xilinx/lutrams_xc5v.txt {others}", "techmap -map +/xilinx/lutrams_xc5v_map.v"]
    small += ["opt -fast -full", f"memory_map {others}"]
    commands = [
        *_read(texts, config.parameters, "engine"),
        _xilinx("xc7", ":map_memory"),
        *small,
        _xilinx("xc7", "fine:map_luts"),
        *MAP_LUTS,
    ]
    commands += ["write_verilog -noattr netlist.v"]

    def make(folder):
        yosys(commands, folder)
        return (folder / "netlist.v").read_text()

    return _cached(f"netlist-{config.name}.v", commands, texts, make), _models("xilinx")


def ecp5(tool, folder, *arguments):
    """Run a tool for the ECP5 in a folder, nextpnr_ecp5 or one of its company."""
    _lattice("ecp5", tool, folder, arguments)


def ice40(tool, folder, *arguments):
    """The same for the iCE40."""
    _lattice("ice40", tool, folder, arguments)


def _lattice(family, tool, folder, arguments):
    module = f"yowasp_nextpnr_{family}"
    _python(module, f"import sys, {module} as tools\nsys.exit(tools.run_{tool}(sys.argv[1:]))", *arguments, cwd=folder)


def place_and_route(config, seed=1):
    """Area and post-route clock of a configuration on an ECP5-25k, from one run of nextpnr with a fixed seed. -> Report

    The engine has more ports than the device has pins, so it is placed and routed out of context, without IO buffers:
    the clock is that of the paths between registers. It is no clock of a Xilinx device, of which no open tool knows the
    delays of its wires.
    """
    # the ECP5's LUT memories are 16 deep and its block memories many: the parameters, too, are in blocks here
    texts, parameters = rtl.sources(), config.parameters | {"PARAM_BLOCKS": 1}
    commands = [*_read(texts, parameters, "engine"), "synth_ecp5 -top engine -nowidelut -json engine.json"]
    options = "--25k --speed 6 --package CABGA381 --out-of-context --timing-allow-fail --freq 100 --quiet".split()
    options += ["--seed", str(seed), "--json", "engine.json", "--report", "report.json"]

    def make(folder):
        yosys(commands, folder)
        ecp5("nextpnr_ecp5", folder, *options)
        report = json.loads((folder / "report.json").read_text())
        used = {name: cell["used"] for name, cell in report["utilization"].items()}
        fmax = min(clock["achieved"] for clock in report["fmax"].values())
        return json.dumps({"used": used, "fmax_mhz": fmax, "critical_paths": report["critical_paths"]}, indent=1)

    made = json.loads(_cached(f"route-{config.name}.json", [*commands, *options], texts, make).read_text())
    used = made["used"]
    return Report(used["TRELLIS_COMB"], used["TRELLIS_FF"], used["MULT18X18D"], used["DP16KD"] / 2, made["fmax_mhz"])


def table(report, device):
    """Lines of text: what a report uses of a device."""
    rows = [f"{device.name}", f"{'':8}{'used':>10}{'there is':>10}"]
    for name, (value, limit, fraction) in report.against(device).items():
        rows.append(f"{name:8}{value:10,g}{limit:10,g}{fraction:8.0%}")
    return rows if report.fmax_mhz is None else [*rows, f"{'clock':8}{report.fmax_mhz:10.1f} MHz after routing"]


def main(name="xc7s15"):
    config = isa.CONFIGS[name]
    print("\n".join(table(synthesise(config), DEVICES[name])))
    if name == "xc7s15":  # the others do not fit the ECP5
        print("\n".join(["", *table(place_and_route(config), DEVICES["ecp5-25k"])]))


if __name__ == "__main__":
    main(*sys.argv[1:])
