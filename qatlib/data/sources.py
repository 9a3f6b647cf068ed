"""Where data sets come from: known files, their checksums, the network."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pooch

from qatlib.data.cells import printable
from qatlib.system.paths import EMBEDDED

FOLDER = "QATLIB_DATA_DIR"  # environment variable: a folder that is looked at before anything is downloaded
GITHUB = "https://raw.githubusercontent.com/"
HOSTS = {  # where a file is downloaded from, by how its path begins
    "ETT": GITHUB + "zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETT",
    "skab/": GITHUB + "waico/SKAB/b2c0d46c2971dcbfe71e26087b6d231998bb91c2/data/",
    "strikewatch/": GITHUB + "tianheng-ling/StrikeWatch/51757d760af254860f97c7494f33bb922653d8f0/data/csv/",
}
REGISTRY = "registry.txt"  # of the embedded folder: path and SHA-256 of every file that belongs to a known data set
TIMEOUT = 20  # seconds without an answer after which a download is given up


@dataclass(frozen=True)
class Source:
    """A series known by name; `published`: downloaded, and split by months."""

    file: str
    target: str
    published: bool


SOURCES = {
    "etth1": Source("ETTh1.csv", "OT", True),
    "etth2": Source("ETTh2.csv", "OT", True),
    "jfk-weather": Source("jfk_weather_2013.csv", "temperature_c", False),
}


class Unavailable(RuntimeError):
    """A data set that neither a folder nor the network has."""


def _locate(name):
    """(name, path, note): where the file of a data set is."""
    if name in SOURCES:
        return name, fetch(name), ""
    if name != "auto":
        path = os.path.expanduser(name)  # unlike Path's, it leaves a user that there is not as it is
        if not os.path.isfile(path):
            what = "no regular file is" if os.path.exists(path) else "no data set and no file"
            raise FileNotFoundError(f"{what} {printable(name)}; give auto, {', '.join(SOURCES)}, or the path of a CSV")
        return name, Path(path), ""
    try:
        return "etth1", fetch("etth1"), ""
    except Unavailable as reason:
        print(
            (
                f"!! ETTh1 could not be had, the embedded weather data serve instead, and every figure says so.\n!! "
                f"{reason}"
            ),
            flush=True,
        )
        return "jfk-weather", fetch("jfk-weather"), "embedded weather data: ETTh1 could not be had"


def fetch(name):
    """Path of a known data set's one file; see `fetch_file`."""
    return fetch_file(SOURCES[name].file)


@lru_cache
def registry():
    """{path: SHA-256} of every file that belongs to a known data set."""
    return dict(line.split() for line in (EMBEDDED / REGISTRY).read_text().splitlines())


def fetch_file(file):
    """Path of a file of the registry, its SHA-256 checked: QATLIB_DATA_DIR first, else the embedded one or pooch's
    cache and download.

    Raises Unavailable, or ValueError for a file that is not the one it should be.
    """
    sha256, folder = registry()[file], os.environ.get(FOLDER)
    if folder and not Path(folder).is_dir():
        raise ValueError(f"{FOLDER}={folder} is no folder; correct or unset it")
    if folder and (Path(folder) / file).is_file():
        return _verified(Path(folder) / file, sha256)
    begins = next((begins for begins in HOSTS if file.startswith(begins)), None)
    if begins is None:
        return _verified(EMBEDDED / file, sha256)
    url, name, cache = HOSTS[begins] + file.removeprefix(begins), file.replace("/", "-"), pooch.os_cache("qatlib")
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(url, f"sha256:{sha256}", name, cache, downloader=pooch.HTTPDownloader(timeout=TIMEOUT))
        )
    except (OSError, ValueError) as error:  # no network, no room, or another file than expected came
        raise Unavailable(
            f"{file} could not be downloaded ({type(error).__name__}: {str(error)[:100]}). Set {FOLDER} to a folder "
            f"that holds it, or put it at {cache / name}, or take DATA=jfk-weather. It is {url}"
        ) from error


def _verified(path, sha256):
    if _sha256(path) != sha256:
        raise ValueError(f"{path} is not the file that is expected (sha256 {sha256}); replace or remove it")
    return path


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
