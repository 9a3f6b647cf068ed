"""Pages of the site that the repository's texts and tables become."""

import html
import json
import os
import re
import shutil

import pandas as pd
import yaml

from qatlib.make.site_notebooks import alternatives, linked
from qatlib.system import paths

FIGURES = paths.ROOT / "paper_figures"  # of the committed run, whose numbers the texts tell
PAGES = {  # text in the repository: page
    "README.md": "index", "paper_figures/README.md": "results", "overlays/README.md": "boards",
    "data/README.md": "data", "qatlib/integer_model/README.md": "arithmetic", "qatlib/runs/README.md": "runs",
    "tests/README.md": "tests", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog",
}  # fmt: skip
PICTURE = "qatlib/live/page.png"  # leads to what it shows
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
COMMENT = re.compile(r"<!-- .*? -->", re.DOTALL)
RESULTS = ("results", "decision", "tables")


def write(source, extra, notebooks):
    """All pages but notebooks and docstrings, and the table of contents. extra: the folder of what goes in as it is;
    notebooks: names of the executed ones."""
    texts = alternatives()
    found = {text: page for text, page in PAGES.items() if (paths.ROOT / text).is_file()}
    for text, page in found.items():
        (source / f"{page}.md").write_text(_readme(text, found, extra, texts, notebooks))
    (source / "model.md").write_text(MODEL)
    (source / "decision.md").write_text(DECISION)
    (source / "glossary.md").write_text(_glossary())
    (source / "cite.md").write_text(_cite())
    shutil.copy(FIGURES / "report.html", extra)
    (source / "run.md").write_text(_run())
    tables = _tables(source, extra)
    (source / "_toc.yml").write_text(yaml.safe_dump(_contents(found.values(), notebooks, tables), sort_keys=False))


# -- READMEs


def _readme(name, pages, extra, texts, notebooks):
    """A README as a page: links lead to pages, or to files that are copied; a figure is its SVG."""
    text = COMMENT.sub("", (paths.ROOT / name).read_text())
    folder = (paths.ROOT / name).parent

    def replaced(match):
        image, label, target = match.groups()
        if re.match(r"\w+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        place = os.path.relpath(folder / path, paths.ROOT)
        if place in pages:
            return f"[{label}]({pages[place]}.md{'#' + anchor if anchor else ''})"
        if image:
            return _figure(place, label, extra, texts)
        return f'<a href="{_copied(place, extra)}{"#" + anchor if anchor else ""}">{label}</a>'

    return linked(LINK.sub(replaced, text), notebooks, "notebooks/")


def _figure(place, label, extra, texts):
    stem = os.path.splitext(os.path.basename(place))[0]
    vector = (paths.ROOT / place).with_suffix(".svg")
    name = _copied(os.path.relpath(vector, paths.ROOT) if vector.is_file() else place, extra)
    text = html.escape(texts.get(stem, label), quote=True)
    image = f'<img src="{name}" alt="{text}">'
    image = f'<a href="live/index.html">{image}</a>' if place == PICTURE else image
    return f'<div class="wide">{image}</div>'


def _copied(place, extra):
    """The address of a file of the repository, which is copied; of a folder, a list of what is in it."""
    path = paths.ROOT / place
    if place == "paper_figures/report.html":
        return "report.html"
    target = extra / "files" / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        target.mkdir(exist_ok=True)
        files = [file for file in sorted(path.iterdir()) if file.is_file()]
        for file in files:
            shutil.copy(file, target)
        items = "".join(f'<li><a href="{html.escape(file.name)}">{html.escape(file.name)}</a></li>' for file in files)
        title = html.escape(str(place))
        (target / "index.html").write_text(LISTING.format(title=title, items=items))
        return f"files/{place}/index.html"
    shutil.copy(path, target)
    return f"files/{place}"


LISTING = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title></head><body><main><h1>{title}</h1><ul>{items}</ul></main></body></html>
"""


# -- Tables


def _tables(source, extra):
    """A page for each table of the committed run, beside its CSV; -> their names"""
    (source / "tables").mkdir()
    (extra / "tables").mkdir()
    names = []
    for path in sorted((FIGURES / "tables").glob("*.csv")):
        frame, name = pd.read_csv(path, dtype=str, keep_default_na=False), path.stem
        shutil.copy(path, extra / "tables")
        shown = frame.to_html(index=False, border=0, classes="table", escape=True)
        head = f'# {name}\n\n{len(frame)} rows; <a href="../tables/{path.name}">{path.name}</a> has the same.\n\n'
        (source / "tables" / f"{name}.md").write_text(f'{head}```{{raw}} html\n<div class="wide">{shown}</div>\n```\n')
        names.append(name)
    listed = "\n".join(f'| [{name}](tables/{name}.md) | <a href="tables/{name}.csv">{name}.csv</a> |' for name in names)
    (source / "tables.md").write_text(f"{TABLES}\n| table | as CSV |\n| --- | --- |\n{listed}\n")
    return names


# -- What is short


def _glossary():
    rows = re.findall(
        r"^\| (\w+) \| (.+) \|$", (paths.ROOT / "README.md").read_text().partition("## Words")[2], re.MULTILINE
    )
    terms = "\n\n".join(f"{word}\n  {meaning}" for word, meaning in rows if word != "word")
    return f"# Glossary\n\n```{{glossary}}\n{terms}\n```\n"


def _cite():
    text = (paths.ROOT / "CITATION.cff").read_text()
    cited = yaml.safe_load(text)
    paper = cited["references"][0]
    names = " and ".join(f"{person['family-names']}, {person['given-names']}" for person in paper["authors"])
    entry = [
        f"  title = {{{{{paper['title']}}}}}",
        f"  author = {{{names}}}",
        f"  year = {{{paper['year']}}}",
        f"  doi = {{{paper['doi']}}}",
    ]
    own = [
        f"  title = {{{{{cited['title']}}}}}",
        f"  author = {{{{{cited['authors'][0]['name']}}}}}",
        f"  version = {{{cited['version']}}}",
    ]
    both = "@software{qatlib,\n" + ",\n".join(own) + "\n}\n\n@article{paper,\n" + ",\n".join(entry) + "\n}"
    head = f"# How to cite\n\n{cited['message']}\n\n"
    return f"{head}```bibtex\n{both}\n```\n\nThe same as `CITATION.cff`:\n\n```yaml\n{text}```\n"


def _run():
    """Which run the notebooks show."""
    run = json.loads((paths.FIGURES / "manifest.json").read_bytes())
    facts = {"profile": run["profile"], "data": run["data"], "seeds": ", ".join(map(str, run["seeds"])),
             "commit": run.get("commit") or "–", "processor": run["processor"]}  # fmt: skip
    rows = "\n".join(f"| {name} | {html.escape(str(fact))} |" for name, fact in facts.items())
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return f"{RUN}\n| what | |\n| --- | --- |\n{rows}\n| versions | {versions} |\n"


def _contents(pages, notebooks, tables):
    def files(*names):
        return [{"file": name} for name in names]

    results = [{"file": "tables", "sections": files(*(f"tables/{name}" for name in tables))}]
    parts = [
        ("See it run", files("model")),
        ("The story", files("run", *(f"notebooks/{name}" for name in notebooks))),
        ("Results", [*files("results", "decision"), *results]),
        ("Hardware and data", files(*(name for name in ("boards", "data") if name in pages))),
        ("The package", files("arithmetic", *(f"api/{room}" for room in paths.ROOMS), "runs", "tests")),
        ("About", files("glossary", "cite", *(name for name in ("contributing", "changelog") if name in pages))),
    ]
    return {"format": "jb-book", "root": "index", "parts": [{"caption": c, "chapters": f} for c, f in parts]}


MODEL = """# A model that runs here

The shipped models, as WebAssembly. <a href="live/index.html">Open it on a page of its own</a>, which suits a phone
better.

<iframe class="live" src="live/index.html" title="The live model"></iframe>
"""
DECISION = """# For decision makers

What to build, on one sheet of paper: <a href="report.html">in English</a>,
<a href="report.html#ja" hreflang="ja" lang="ja">日本語</a>.

<iframe class="live" src="report.html" title="The page for decision makers"></iframe>
"""
TABLES = """# All tables

Each table of the committed run, sorted by a click on a heading, and as CSV. Numbers are measured, simulated, estimated
or published; a column tells which where a table has several.
"""
RUN = """# Which run this is

The notebooks that follow, in the order of the story, were executed by one `make figures`:
"""
