"""A site on localhost, and Chromium."""

import functools
import http.server
import shutil
import threading

import pytest
from playwright.sync_api import sync_playwright

from qatlib.make.site import SITE

PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address():
    """Where the site is; it fails where none was built."""
    assert (SITE / "index.html").is_file(), f"no site in {SITE}: make site"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium")
    assert path, "chromium is missing: apt install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(chromium):
    """options of a context -> the one that has them, so that pages share what they load"""
    return functools.cache(lambda **options: chromium.new_context(**options))


@pytest.fixture
def opened(context, address):
    """(path, size, options of a context) -> a page, and what it complained of: of all but the site, too."""
    pages = []

    def open_page(path, size=WIDE, **options):
        pages.append(context(**options).new_page())
        page, complaints = pages[-1], []
        page.set_viewport_size(size)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url} failed"))
        page.on("request", lambda request: complaints.extend(_foreign(request.url)))
        page.goto(f"{address}/{path}")
        return page, complaints

    def _foreign(url):
        return [] if url.startswith((f"{address}/", "data:", "blob:", "about:")) else [f"{url} is elsewhere"]

    yield open_page
    for page in pages:
        page.close()
