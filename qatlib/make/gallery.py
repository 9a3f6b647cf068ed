"""The last cell of a notebook shows its committed figures to whoever reads it unexecuted; it is tagged `gallery`."""

import json

TAG = "gallery"


def without_gallery(notebook):
    """A notebook file's content without that cell: as bytes, for copies that have the figures themselves."""
    document = json.loads(notebook.read_bytes())
    document["cells"] = [cell for cell in document["cells"] if TAG not in cell["metadata"].get("tags", [])]
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
