"""What the site is made of; `make test-site` looks at the site itself."""

import json
import re

import pytest

from qatlib.make import records, site, site_api, site_notebooks, site_pages
from qatlib.system import paths


def test_without_notebooks_it_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "EXECUTED", tmp_path)
    assert site.main() == 1
    assert f"no executed notebooks in {tmp_path}: run `make figures" in capsys.readouterr().err


def test_a_figure_that_is_gone_is_named(tmp_path, monkeypatch, capsys):
    for name in ("SOURCE", "WORK", "SITE"):
        monkeypatch.setattr(site, name, tmp_path / name.lower())
    monkeypatch.setattr(records, "EXECUTED", tmp_path)
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    executed(tmp_path / "01_data.ipynb", 'style.save(x, "01_series", y);')
    record = {"key": "", "outputs": {}, "seconds": 1.0, "about": {"data": "", "profile": ""}}
    (tmp_path / "01_data.json").write_text(json.dumps(record))
    assert site.main() == 1
    assert "01_series.svg is missing: run `make figures` again" in capsys.readouterr().err


def executed(path, source, **metadata):
    """A notebook of a text, and a cell that leaves a figure and a widget."""
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "iVBO\nRw0K"}}
    widget = {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}}
    code = {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [picture, widget]}
    text = {"cell_type": "markdown", "source": "see `01_data` and `09_other`", "metadata": {}}
    path.write_text(
        json.dumps({"cells": [text, code], "metadata": {"widgets": {}}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


@pytest.mark.parametrize(
    ("source", "metadata", "shown"),
    [
        ('style.save(x, "01_series", y);', {}, r'<img src="\.\./figures/01_series\.svg" alt="\w[^"<]{20,}">'),
        ("plot(x);", {"alt": 'a "<b>'}, r'<img src="data:image/png;base64,iVBORw0K" alt="a &quot;&lt;b&gt;">'),
    ],
)
def test_figures_have_words_and_widgets_are_left_out(tmp_path, monkeypatch, source, metadata, shown):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    (tmp_path / "01_series.svg").write_text("<svg/>")
    site_notebooks.write([executed(tmp_path / "01_data.ipynb", source, **metadata)], tmp_path / "n", tmp_path / "f")
    page = json.loads((tmp_path / "n" / "01_data.ipynb").read_text())
    text, code = page["cells"]
    assert text["source"] == "see [`01_data`](01_data.ipynb) and `09_other`" and page["metadata"] == {}
    (output,) = code["outputs"]
    assert re.fullmatch(shown, output["data"]["text/html"][0])


def test_pages_of_the_package_have_public_names_alone(tmp_path):
    site_api.write(tmp_path / "api")
    assert {path.stem for path in (tmp_path / "api").iterdir()} == set(paths.ROOMS)
    text = (tmp_path / "api" / "integer_model.md").read_text()
    assert "### IntegerModel" in text and "IntegerModel.forward(self, counts)" in text
    assert not re.search(r"^### \\?_", text, re.MULTILINE) and "._" not in text


def test_what_a_docstring_says_is_no_markup():
    assert site_api._escaped("<b> *x* `a*b` {y}_z") == r"\<b\> \*x\* `a*b` \{y\}\_z"


def test_links_lead_to_pages_or_to_copies(tmp_path):
    pages = {"README.md": "index", "data/README.md": "data"}
    text = site_pages._readme("README.md", pages, tmp_path, {}, ["01_data"])
    assert "(data.md)" in text and "[`01_data`](notebooks/01_data.ipynb)" in text and "<!--" not in text
    assert '<a href="report.html">' in text and '<a href="files/LICENSE">LICENSE</a>' in text
    assert (tmp_path / "files" / "LICENSE").read_bytes() == (paths.ROOT / "LICENSE").read_bytes()


def test_words_and_citation_are_those_of_the_repository():
    words = re.findall(r"^(\w+)\n  \S", site_pages._glossary(), re.MULTILINE)
    assert words == sorted(words, key=words.index) and {"count", "code", "anchor", "run"} <= set(words)
    assert "doi = {10.48550/arXiv.2408.16495}" in site_pages._cite()
