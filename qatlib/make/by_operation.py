"""The instructions of a forecast by the operations of its model, counted on an emulated core.

A call that does nothing is put behind each call in the exported forecast, and the count is read whenever the core gets
there: whatever ran since the last time belongs to the operations whose constants the call names. So it matters neither
what the functions are called nor which of them the compiler put into others.
"""

import re
from unittest import mock

from qatlib.mcu import emulate

MARK = 'void mark(void);\n__attribute__((noinline)) void mark(void) { __asm__ volatile("" ::: "memory"); }\n\n'
FORECAST = re.compile(r"^void model_forecast\(.*?\) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"^ +(\w+)\(.*\);$", re.MULTILINE)


class Marked(emulate.Firmware):
    """A firmware that calls `mark` behind every operation; `calls`: their text, in the order of the forecast."""

    def __init__(self, model, target):
        export = emulate.export_c

        def export_marked(*arguments, **options):
            source, header = export(*arguments, **options)
            text = source.read_text()
            body = FORECAST.search(text)
            self.calls = [found[0].strip() for found in CALL.finditer(body[1])]
            marked = CALL.sub(lambda found: f"{found[0]}\n    mark();", body[1])
            source.write_text(text[: body.start()] + MARK + body[0].replace(body[1], marked) + text[body.end() :])
            return source, header

        with mock.patch.object(emulate, "export_c", export_marked):
            super().__init__(model, target)

    def _read(self, path):
        from elftools.elf.elffile import ELFFile

        super()._read(path)
        with path.open("rb") as file:
            (symbol,) = ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name("mark")
            self.mark = symbol["st_value"] & ~1  # of Thumb code the lowest bit is set


def counted(model, target, window):
    """The instructions of one window's forecast, by its calls in the order of the program.

    window: int16 of `model.window_shape`; target: one of `emulate.TARGETS`.
    -> [(paths of the call's operations, its C function, instructions)], the last of them what follows the last call; of
    a call that names no constant the paths are (). EmulationError where the calls that ran are not those of the
    program, as in a model whose program is a loop over channels.
    """
    import unicorn

    firmware = Marked(model, target)
    machine, counts = emulate._MACHINES[firmware.target.name](firmware), []

    def mark(engine, address, size, _):
        if address == firmware.mark:
            counts.append(machine.count)

    machine.engine.hook_add(unicorn.UC_HOOK_BLOCK, mark)
    _, total, _ = machine.forecast(window)
    if len(counts) != len(firmware.calls):
        what = f"{len(counts)} calls ran, and its program has {len(firmware.calls)}"
        raise emulate.EmulationError(f"{model.name} on {target}: {what}; give a model of one channel")
    steps = [after - before for before, after in zip([0, *counts], [*counts, total], strict=True)]
    named = [(_operations(model, call), call.partition("(")[0]) for call in firmware.calls]
    return [(*name, step) for name, step in zip([*named, ((), "")], steps, strict=True)]


def _operations(model, call):
    """Paths of the operations whose constants a call names, as `mcu.program` labels them."""
    labels = {f"{o.kind}_{i}": o.path for i, o in enumerate(model.operations)}
    words = re.findall(r"\w+", call)
    return tuple(path for label, path in labels.items() if any(word.startswith(f"{label}_") for word in words))
