"""`python -m qatlib.make.results`, and the READMEs: numbers of the tables, links that hold, Python that runs."""

import re
import subprocess

import pytest

from qatlib.make import results
from qatlib.system.paths import ROOT

FOLDERS = ("data", "notebooks", "overlays", "paper_figures", "qatlib", "tests")
PAGES = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
PAGES = [page for page in PAGES if page != results.TEMPLATE]  # whose links are those of the page made from it


@pytest.fixture(scope="module")
def known():
    """What the command would write, of the committed run alone: `make figures` writes over it."""
    manifest = results.FOLDER / "manifest.json"
    if (
        subprocess.run(["git", "-C", ROOT, "diff", "--quiet", "HEAD", "--", manifest], capture_output=True).returncode
        == 1
    ):
        pytest.skip("paper_figures/ holds figures of a run of your own (git checkout paper_figures)")
    return results.values()


def test_readme_has_the_numbers_of_the_tables(known):
    text = results.README.read_text()
    assert {name for _, name, _ in results.MARKED.findall(text)} == {"minutes", "results"}
    assert text == results.readme(text, known)


def test_the_results_are_those_of_the_tables(known):
    assert results.REPORT.read_text() == results.report(known)


def test_every_table_is_shown(known):
    shown = {name for _, name, _ in results.MARKED.findall(results.README.read_text())}
    shown |= set(re.findall(r"\$(\w+)", results.TEMPLATE.read_text()))
    assert shown == known.keys()


def test_of_a_run_of_another_kind_no_more_is_said(monkeypatch, tmp_path):
    run = {"profile": "full", "data": "etth1", "parameters": {"profile": "full", "data": "etth1"}}
    assert results.is_of_the_paper(run)
    others = [{"profile": "quick"}, {"data": "own"}, {"parameters": {"context": 96}}, {"parameters": {"clean": True}}]
    monkeypatch.setattr(results, "REPORT", tmp_path / "README.md")
    for change in others:
        monkeypatch.setattr(results, "manifest", lambda change=change: run | change)
        assert not results.is_of_the_paper(results.manifest())
        results.write_report()
        assert results.REPORT.read_text().startswith("# A run of another kind\n")
        with pytest.raises(SystemExit, match=r"README\.md tells of a full one on etth1"):
            results.main()


def test_a_number_typed_by_hand_is_found_and_an_unknown_name_refused():
    known = {"speed": "7"}
    assert results.readme("a <!-- speed -->9<!-- end -->, b <!-- speed --><!-- end -->", known) == (
        "a <!-- speed -->7<!-- end -->, b <!-- speed -->7<!-- end -->"
    )
    with pytest.raises(KeyError, match="sped"):
        results.readme("<!-- sped -->9<!-- end -->", known)


def test_readme_is_short():
    assert len(results.README.read_bytes()) <= 8192
    assert results.results().count("\n| ") - 2 <= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_images_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"https?:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def snippets(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_snippets_import_is_there(page):
    for snippet in snippets(page):
        compile(snippet, page, "exec")
        exec("\n".join(re.findall(r"^(?:from|import) .*", snippet, re.MULTILINE)), {})


def test_the_snippet_of_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (snippet,) = snippets(results.README)
    names = {}
    exec(snippet, names)
    assert names["model"].describe() in capsys.readouterr().out
    assert names["truth"].shape == names["model"].forward(names["counts"]).shape
