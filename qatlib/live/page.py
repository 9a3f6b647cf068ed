"""The live page: one file with its style, its script and its first model; the others beside it, loaded when chosen."""

import html
import json
import re
from functools import lru_cache
from pathlib import Path
from string import Template

from qatlib.live import pack
from qatlib.system import disk

HERE = Path(__file__).parent
MODULES = "cells csv rows digest walks data float model chart parts main".split()  # each after what it imports
FIRST = "jfk-weather/patch-c336-d16-w4a4"
IN_NOTEBOOK = (FIRST, "occupancy/point-w240-d8-h2-4to1-w4a4", "jfk-weather-faults/linear-c8-r16x8-4to4-w4a4")
LEAD = (
    "Transformers of a few kilobytes, in integers alone: the same C that a microcontroller gets, here as WebAssembly. "
    "Play a recording, drag its samples, or drop a CSV of your own; nothing leaves this browser. "
)
HOME = '<a href="../index.html" target="_top">What this is about</a>'
MOST = 150_000  # bytes of a notebook's output


def write(folder):
    """Write index.html and a file for each model into a folder, which is made. -> the page's path"""
    folder, entries = Path(folder), pack.catalogue()
    for entry in entries:
        path = pack.folder_of(entry["key"], folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write(path, json.dumps(packed(entry["key"])).encode())
    path = folder / "index.html"
    disk.write(path, page(entries, [FIRST], LEAD + HOME).encode())
    return path


@lru_cache
def packed(key):
    return pack.pack(*key.split("/"))


def page(entries, keys, lead, without=()):
    """The page as HTML. entries: what there is to choose from; keys: the models that are in it; lead: HTML; without:
    what is left out of each, such as the program, by which the page computes in floating point, too."""
    packs = {key: {name: fact for name, fact in packed(key).items() if name not in without} for key in keys}
    held = {"catalogue": entries, "recordings": pack.recordings(), "packs": packs}
    return Template((HERE / "live.html").read_text()).substitute(
        style=(HERE / "live.css").read_text(),
        lead=lead,
        packs=json.dumps(held, ensure_ascii=False, separators=(",", ":")).replace("<", r"\u003c"),
        script=script(),
    )


def script():
    """The modules as one, in the order of their imports."""
    text = "".join((HERE / f"{name}.js").read_text() for name in MODULES)
    return re.sub(r"^export ", "", re.sub(r'^import .*? from "\./\w+\.js";\n', "", text, flags=re.M | re.S), flags=re.M)


class Block:
    """The live model as the output of a notebook's cell."""

    def __init__(self, content):
        self.content = content

    def _repr_html_(self):
        return self.content

    def __repr__(self):
        return f"the live model, {len(self.content):,} bytes of HTML"


def block(keys=IN_NOTEBOOK):
    """The live page with these models, in a frame of its own: as a cell's output it works wherever HTML does.

    ValueError where it grows beyond what a notebook should carry."""
    entries = [entry for entry in pack.catalogue() if entry["key"] in keys]
    framed = html.escape(page(entries, keys, LEAD, without=("program",)), quote=True)
    content = (
        f'<iframe title="The live model" style="width:100%;height:56rem;border:0" srcdoc="{framed}"></iframe>\n'
        "<p>No model above? Trust the notebook, or run this cell: JupyterLab shows no frame of a notebook that it does "
        "not trust.</p>"
    )
    if len(content.encode()) > MOST:
        raise ValueError(f"the live model takes {len(content.encode()):,} bytes of {MOST:,}: leave out one of {keys}")
    return Block(content)
