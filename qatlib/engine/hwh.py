"""The overlay's metadata (.hwh) as Vivado writes it, of which pynq reads modules, addresses, registers and interrupts.
Made from `isa`.

The simulator needs it; a board's comes out of Vivado, and `check` compares it with the same table.
"""

from pathlib import Path
from xml.etree import ElementTree

from qatlib.engine import isa

NAME = "engine"  # of .bit, .hwh and .sha256
INSTANCE, INTERRUPTS = "engine_0", "intc_0"
VLNV = "qatlib:engine:engine:1.0"
BASE, INTERRUPTS_BASE = 0x43C0_0000, 0x4180_0000  # on the general-purpose port of a Zynq-7000; a KV260 has others
SIZE = 1 << isa.ADDRESS_BITS  # bytes of the engine's aperture
INTERRUPTS_SIZE = 0x1_0000
CLOCK_MHZ = 100.0
IRQ = 61  # of the processor: the first of its interrupts from the fabric
ACCESS = {"r": "read-only", "w": "write-only", "rw": "read-write"}


def write(path):
    """Write the metadata of a Zynq-7000 with engine and interrupt controller to `path`."""
    root = ElementTree.Element("EDKSYSTEM")
    _add(root, "SYSTEMINFO", NAME=NAME, ARCH="zynq")
    _add(root, "EXTERNALPORTS")
    modules = _add(root, "MODULES")
    _processor(modules)
    _engine(modules)
    _interrupts(modules)
    ElementTree.indent(root)
    Path(path).write_bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n")


def check(path):
    """ValueError unless the engine that this file describes has our name and aperture, and our registers if it lists
    any."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is no XML: {error}; build the overlay again") from None
    module = next((m for m in root.iter("MODULE") if m.get("VLNV") == VLNV), None)
    if module is None:
        raise ValueError(f"{path} describes no {VLNV}; was another design built?")
    ranges = [m for m in root.iter("MEMRANGE") if m.get("INSTANCE") == module.get("INSTANCE")]
    ends = [(m.get("BASEVALUE", ""), m.get("HIGHVALUE", "")) for m in ranges if m.get("MEMTYPE") == "REGISTER"]
    sizes = {_number(last, path, 16) - _number(first, path, 16) + 1 for first, last in ends}
    if sizes != {SIZE}:
        raise ValueError(f"{path}: the engine's aperture has {sorted(sizes)} bytes, not {SIZE}; see overlays/build.tcl")
    found, wanted = (
        _layout(module, path),
        {name: _expected(offset, fields) for name, offset, _, fields, _ in isa.REGISTERS},
    )
    if found and found != wanted:
        wrong = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise ValueError(
            f"{path}: register {', '.join(wrong)} is not that of qatlib.engine.isa; build the overlay again"
        )


def _add(parent, tag, **attributes):
    return ElementTree.SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})


def _module(modules, instance, vlnv, **attributes):
    return _add(
        modules,
        "MODULE",
        FULLNAME=f"/{instance}",
        INSTANCE=instance,
        MODTYPE=vlnv.split(":")[2],
        VLNV=vlnv,
        **attributes,
    )


def _bus(module, name, kind):
    _add(_add(module, "BUSINTERFACES"), "BUSINTERFACE", NAME=name, TYPE=kind, VLNV="xilinx.com:interface:aximm:1.0")


def _wire(ports, direction, name, instance, port):
    wire = _add(ports, "PORT", DIR=direction, NAME=name, SIGIS="INTERRUPT")
    _add(_add(wire, "CONNECTIONS"), "CONNECTION", INSTANCE=instance, PORT=port)


def _processor(modules):
    module = _module(modules, "ps7", "xilinx.com:ip:processing_system7:5.5", IS_PL="FALSE")
    parameters = _add(module, "PARAMETERS")
    for clock in range(4):
        divisors = (5, 1000 / 5 / CLOCK_MHZ) if clock == 0 else (1, 1)  # of the 1000 MHz of the IO PLL
        values = {f"FPGA_FCLK{clock}_ENABLE": int(clock == 0), f"FCLK{clock}_PERIPHERAL_CLKSRC": "IO PLL"}
        values |= {f"FCLK{clock}_PERIPHERAL_DIVISOR{i}": int(d) for i, d in enumerate(divisors)}
        for name, value in values.items():
            _add(parameters, "PARAMETER", NAME=f"PCW_{name}", VALUE=value)
    _bus(module, "M_AXI_GP0", "MASTER")
    _wire(_add(module, "PORTS"), "I", "IRQ_F2P", INTERRUPTS, "irq")
    memories = _add(module, "MEMORYMAP")
    for instance, base, size in ((INTERRUPTS, INTERRUPTS_BASE, INTERRUPTS_SIZE), (INSTANCE, BASE, SIZE)):
        place = {"BASEVALUE": f"0x{base:08X}", "HIGHVALUE": f"0x{base + size - 1:08X}", "INSTANCE": instance}
        ends = {
            "MASTERBUSINTERFACE": "M_AXI_GP0",
            "SLAVEBUSINTERFACE": "s_axi",
            "MEMTYPE": "REGISTER",
            "ADDRESSBLOCK": "reg0",
        }
        _add(memories, "MEMRANGE", **place, **ends)


def _engine(modules):
    module = _module(modules, INSTANCE, VLNV)
    block = _add(_add(module, "ADDRESSBLOCKS"), "ADDRESSBLOCK", INTERFACE="s_axi", NAME="reg0", USAGE="register")
    registers = _add(block, "REGISTERS")
    for name, offset, access, fields, text in isa.REGISTERS:
        register = _add(registers, "REGISTER", NAME=name)
        _properties(register, DESCRIPTION=text, ADDRESS_OFFSET=f"0x{offset:02X}", SIZE=32, ACCESS=ACCESS[access])
        position, listed = 0, _add(register, "FIELDS")
        for field, bits in fields:
            _properties(_add(listed, "FIELD", NAME=field), BIT_OFFSET=position, BIT_WIDTH=bits, ACCESS=ACCESS[access])
            position += bits
    _bus(module, "s_axi", "SLAVE")
    _wire(_add(module, "PORTS"), "O", "irq", INTERRUPTS, "intr")


def _interrupts(modules):
    module = _module(modules, INTERRUPTS, "xilinx.com:ip:axi_intc:4.1")
    _bus(module, "s_axi", "SLAVE")
    ports = _add(module, "PORTS")
    _wire(ports, "I", "intr", INSTANCE, "irq")
    _wire(ports, "O", "irq", "ps7", "IRQ_F2P")


def _properties(element, **properties):
    for name, value in properties.items():
        _add(element, "PROPERTY", NAME=name, VALUE=value)


def _expected(offset, fields):
    """{field: (lowest bit, bits)} at a byte offset."""
    starts = [sum(bits for _, bits in fields[:i]) for i in range(len(fields))]
    return offset, {name: (start, bits) for start, (name, bits) in zip(starts, fields)}


def _number(text, path, base=0):
    try:
        return int(text, base)
    except ValueError:
        raise ValueError(f"{path}: {text!r} stands where a number should; build the overlay again") from None


def _layout(module, path):
    """The registers of a module as the file has them, in the form of `_expected`."""

    def value(element, name):
        return _number(
            next((p.get("VALUE", "") for p in element.findall("PROPERTY") if p.get("NAME") == name), ""), path
        )

    def fields(register):
        return {f.get("NAME"): (value(f, "BIT_OFFSET"), value(f, "BIT_WIDTH")) for f in register.iter("FIELD")}

    return {r.get("NAME"): (value(r, "ADDRESS_OFFSET"), fields(r)) for r in module.iter("REGISTER")}
