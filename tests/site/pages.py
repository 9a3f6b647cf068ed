"""Every page of the site in a browser as wide as a phone, and every link, offline."""

import re
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from qatlib.device import shipped
from qatlib.make import records
from qatlib.make.site import SITE
from qatlib.system import paths
from tests.site.conftest import PHONE

PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html")) or ["index.html"]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class _Parsed(HTMLParser):
    """What a page loads, links to, and can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.linked, self.names, self.silent = [], [], {""}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names |= {found.get("id"), found.get("name")}
        if address := found.get(LOADED.get(tag, "")):
            self.loaded.append(address)
        if tag == "a" and found.get("href") is not None:
            self.linked.append(found["href"])
        if tag == "img" and not (found.get("alt") or "").strip():
            self.silent.append(found.get("src", "")[:80])


@lru_cache(None)
def parsed(path):
    return _Parsed((SITE / path).read_text())


def test_the_site_is_whole():
    """Every executed notebook, every table and every part of the package has a page."""
    notebooks = {path.stem for path in records.EXECUTED.glob("*.json")}
    tables = {path.stem for path in (paths.ROOT / "paper_figures" / "tables").glob("*.csv")}
    for folder, names in (("notebooks", notebooks), ("tables", tables), ("api", set(paths.ROOMS))):
        assert names and names <= {Path(page).stem for page in PAGES if page.startswith(f"{folder}/")}
    assert len(list((SITE / "live" / "models").rglob("*.json"))) == len(shipped.outputs())


def test_the_site_is_small():
    assert sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) <= 30e6
    assert (SITE / "live" / "index.html").stat().st_size <= 150e3


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_complaint_and_fits_a_phone(opened, page):
    shown, complaints = opened(page, PHONE)
    assert complaints == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    silent = (
        "[...document.images].filter((image) => !image.alt.trim() || !image.naturalWidth).map((image) => image.src)"
    )
    assert shown.evaluate(silent) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_hold_and_nothing_is_loaded_from_elsewhere(page):
    found = parsed(page)
    assert found.silent == []
    assert [address for address in found.loaded if re.match(r"(https?:)?//", address)] == []
    dead = [address for address in {*found.linked, *found.loaded} if not _holds(page, address)]
    assert dead == []


def _holds(page, address):
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True  # of somebody else, or data
    target = SITE / page if not parts.path else (SITE / page).parent / unquote(parts.path)
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file() or SITE not in target.resolve().parents:
        return False
    return target.suffix != ".html" or unquote(parts.fragment) in parsed(str(target.resolve().relative_to(SITE))).names


def test_styles_load_nothing_from_elsewhere():
    for path in SITE.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text()), path


def test_a_table_is_sorted_by_its_headings(opened):
    page, _ = opened("tables/engine.html")
    column = page.locator("table tbody tr td:nth-child(6)")
    page.get_by_role("button", name="cycles", exact=True).click()
    rising = [int(text) for text in column.all_inner_texts()]
    page.get_by_role("button", name="cycles", exact=True).press("Enter")
    falling = [int(text) for text in column.all_inner_texts()]
    assert rising == sorted(rising) and falling == rising[::-1] != rising


def test_a_word_is_found(opened):
    page, complaints = opened("search.html?q=requantise")
    page.wait_for_selector("ul.search li a")
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_mode_follows_the_system(opened, scheme):
    for path in ("index.html", "live/index.html"):
        page, _ = opened(path, color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(re.search(r"\d+", ground)[0]) < 128) == (scheme == "dark"), (path, ground)


def test_the_notebook_carries_the_live_model(opened):
    page, _ = opened("notebooks/00_start_here.html")
    frame = page.frame_locator("iframe[title='The live model']")
    frame.locator("#proof[data-state=equal]").wait_for(timeout=20_000)
