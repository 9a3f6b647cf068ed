"""`python -m qatlib.make.kept_output`: the live model into notebook 00, as the one output that the repository keeps.

GitHub and nbviewer show notebooks as they are committed. A test holds the output to what this writes.
"""

import json

from qatlib import live
from qatlib.system import disk, paths

NOTEBOOK = paths.NOTEBOOKS / "00_start_here.ipynb"


def kept(cell):
    """Whether a cell's output stays when outputs are stripped, as nbstripout has it."""
    return bool(cell["metadata"].get("keep_output"))


def output():
    """What the cell leaves, as a notebook's file has it."""
    block = live.block()
    data = {"text/html": block._repr_html_().splitlines(keepends=True), "text/plain": [repr(block)]}
    return {"data": data, "execution_count": None, "metadata": {}, "output_type": "execute_result"}


def main():
    document = json.loads(NOTEBOOK.read_bytes())
    (cell,) = filter(kept, document["cells"])
    cell["outputs"] = [output()]
    disk.write(NOTEBOOK, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
