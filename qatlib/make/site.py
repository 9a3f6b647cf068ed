"""`python -m qatlib.make.site`: build/site/, the companion as a site, from the executed notebooks of the last
`make figures` and the READMEs, by Jupyter Book. No network is needed, to build it or to read it.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from qatlib import live
from qatlib.make import records, site_api, site_notebooks, site_pages
from qatlib.system import paths

HERE = Path(__file__).parent
TIMEOUT = 900  # seconds, of Jupyter Book
SITE, SOURCE, WORK = (paths.BUILD / name for name in ("site", "site-source", "site-work"))


class SiteError(Exception):
    """Why there is no site, in words for the user."""


def main():
    """-> the exit status"""
    began = time.monotonic()
    try:
        build()
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    files = [path for path in SITE.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{SITE}/index.html: {len(files)} files, {size:.1f} MB, in {time.monotonic() - began:.0f} s")
    return 0


def build():
    """SiteError where there are no executed notebooks, or Jupyter Book finds a fault."""
    executed = sorted(records.EXECUTED.glob("[0-9][0-9]_*[!.].ipynb"))
    executed = [path for path in executed if records.read(path.stem)]
    if not executed:
        raise SiteError(f"no executed notebooks in {records.EXECUTED}: run `make figures PROFILE=quick` first")
    shutil.rmtree(SOURCE, ignore_errors=True)
    extra = SOURCE / "extra"  # what goes into the site as it is
    extra.mkdir(parents=True)
    try:
        site_notebooks.write(executed, SOURCE / "notebooks", extra / "figures")
    except FileNotFoundError as error:
        raise SiteError(f"{error.filename} is missing: run `make figures` again") from None
    site_pages.write(SOURCE, extra, [path.stem for path in executed])
    site_api.write(SOURCE / "api")
    live.write(extra / "live")
    (SOURCE / "_static").mkdir()
    for name in ("site.css", "site.js"):
        shutil.copy(HERE / name, SOURCE / "_static")
    shutil.copy(HERE / "favicon.svg", SOURCE)
    shutil.copy(HERE / "site.yml", SOURCE / "_config.yml")
    _book()


def _book():
    """The source as HTML, in the place of what was there."""
    command = [
        Path(sys.executable).with_name("jupyter-book"),
        "build",
        SOURCE,
        "--path-output",
        WORK,
        "--all",
        "-W",
        "--keep-going",
    ]
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(list(map(str, command)), timeout=TIMEOUT, **piped)
    except subprocess.TimeoutExpired:
        raise SiteError(f"Jupyter Book did not end within {TIMEOUT} s") from None
    if done.returncode:
        told = [line for line in done.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
        raise SiteError("\n".join(["Jupyter Book refused:", *(told or done.stdout.splitlines()[-30:])]))
    made = WORK / "_build" / "html"
    for left in (*made.rglob("*.map"), *(made / "_static").glob("*macros.html")):  # the theme's, for its developers
        left.unlink()
    shutil.rmtree(SITE, ignore_errors=True)
    made.rename(SITE)
    for leftover in (WORK, SOURCE):
        shutil.rmtree(leftover)


if __name__ == "__main__":
    sys.exit(main())
