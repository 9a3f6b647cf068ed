"""Executed notebooks as pages of the site: figures as SVG with words for whoever cannot see them."""

import html
import json
import re
import shutil

from qatlib.system import paths

SAVED = re.compile(r'\bsave\(.*?"(\d\d_\w+)"', re.DOTALL)  # style.save, panel.save
ALTERNATIVE = re.compile(r"!\[(.*?)\]\(\.\./paper_figures/(\w+)\.png\)")


def write(executed, folder, figures):
    """Copies of executed notebooks, and the figures that they saved. FileNotFoundError for one that is not there."""
    folder.mkdir()
    figures.mkdir()
    texts = alternatives()
    names = [path.stem for path in executed]
    for path in executed:
        document = json.loads(path.read_bytes())
        document["metadata"].pop("widgets", None)  # they need a kernel, and scripts from elsewhere
        document["cells"] = [_cell(cell, figures, texts, names) for cell in document["cells"]]
        (folder / path.name).write_text(json.dumps(document, ensure_ascii=False))


def alternatives():
    """{figure: its alternative text}, from the galleries of the notebooks."""
    notebooks = sorted(paths.NOTEBOOKS.glob("[0-9]*.ipynb"))
    cells = [cell for path in notebooks for cell in json.loads(path.read_bytes())["cells"]]
    return {name: text for cell in cells for text, name in ALTERNATIVE.findall("".join(cell["source"]))}


def linked(text, names, to=""):
    """Notebooks' names as links to their pages."""
    return re.sub(r"`(\d\d_\w+)`", lambda m: f"[`{m[1]}`]({to}{m[1]}.ipynb)" if m[1] in names else m[0], text)


def _cell(cell, figures, texts, names):
    source = "".join(cell["source"])
    tags = cell["metadata"].get("tags", [])
    if cell["cell_type"] == "markdown":
        return cell | {"source": linked(source, names)}
    if cell["cell_type"] != "code":
        return cell
    saved = SAVED.findall(source)
    plain = cell["metadata"].get("alt", "")  # of a figure that is not saved
    outputs = [_output(output, saved, plain, figures, texts) for output in cell["outputs"] if not _is_widget(output)]
    metadata = {"tags": [*tags, "hide-input"] if "parameters" in tags else tags}
    return cell | {"outputs": outputs, "metadata": metadata}


def _is_widget(output):
    return any("widget" in kind for kind in output.get("data", {}))


def _output(output, saved, plain, figures, texts):
    picture = output.get("data", {}).get("image/png")
    if picture is None:
        return output
    name = saved.pop(0) if saved else None
    if name:
        shutil.copy(paths.FIGURES / f"{name}.svg", figures)
        address, text = f"../figures/{name}.svg", texts[name]
    else:
        address, text = f"data:image/png;base64,{''.join(picture.split())}", plain
    return output | {"data": {"text/html": [f'<img src="{address}" alt="{html.escape(text, quote=True)}">']}}
