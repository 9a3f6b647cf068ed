"""`python -m qatlib.engine.synthesis xc7s15`: what the engine costs, without a vendor's tools. All of it is cached by content.

`synthesise` counts the cells of the netlist that Yosys maps for a Xilinx device; `place_and_route` is a real post-route clock, on a Lattice
ECP5; `netlist` is the mapped engine as Verilog, for a simulation of the gates.
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
    """What a netlist uses. lut: every LUT cell counts as one (a vendor packs some in pairs), memories and shift registers made of LUTs too."""

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


def _python(module, program, *arguments, **options):
    """A program in a process of its own, so that neither a crash nor the noise of a tool gets here. BuildError where it fails."""
    if util.find_spec(module) is None:
        raise rtl.BuildError(f"{module} is missing: pip install {module.replace('_', '-')}")
    return rtl.run([sys.executable, "-c", program, *map(str, arguments)], **options)


def yosys(commands, folder):
    """Run commands of Yosys in a folder. BuildError says what Yosys found wrong."""
    program = "import sys\nfrom pyosys import libyosys\ndesign = libyosys.Design()\nfor line in sys.stdin: libyosys.run_pass(line.strip(), design)"
    try:
        _python("pyosys", program, cwd=folder, input="\n".join(commands))
    except rtl.BuildError as error:
        found = re.search(r"^.*\bERROR: ?(.*\n?.*)", str(error), re.MULTILINE)
        raise rtl.BuildError(f"Yosys: {found[0].strip()}" if found else str(error)) from None


def _read(texts, parameters, top):
    given = "".join(f" -chparam {name} {value}" for name, value in parameters.items())
    return [f"read_verilog -sv -defer {' '.join(texts)}", f"hierarchy -check -top {top}{given}"]


def _map(family, top, options=""):
    """synth_xilinx, with every LUT at the same cost: Yosys prefers small ones, which can share a slice's LUT, and makes 4 % more of them."""
    head = f"synth_xilinx -family {family} -top {top} -flatten -noiopad -noclkbuf {options}"
    luts = ["opt_expr -mux_undef -noclkinv", "abc9 -luts 1,1,1,1,1,1", "clean", "xilinx_srl -fixed -minlen 3"]
    cells = ["techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6", "xilinx_dffopt", "opt_lut_ins -tech xilinx", "clean"]
    return [f"{head} -run :map_luts", *luts, *cells]


def _cached(name, commands, texts, make):
    """The file `name`, with the hash of everything it comes from in its name; `make(folder)` returns its text from the files in a folder."""
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
