"""Where data sets come from: known files, their checksums, the network."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pooch

from qatlib.data.cells import printable
from qatlib.system.paths import EMBEDDED

FOLDER = "QATLIB_DATA_DIR"  # environment variable: a folder that is looked at before anything is downloaded
ETT_URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/"
TIMEOUT = 20  # seconds without an answer after which a download is given up


@dataclass(frozen=True)
class Source:
    """A data set known by name; `published`: downloaded, and split by months."""

    file: str
    target: str
    sha256: str
    published: bool


SOURCES = {
    "etth1": Source("ETTh1.csv", "OT", "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066", True),
    "etth2": Source("ETTh2.csv", "OT", "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b", True),
    "jfk-weather": Source(
        "jfk_weather_2013.csv",
        "temperature_c",
        "03339ce2a3161c8f8552027f0d81022eda35ee7042e24833168153ac3d18fc49",
        False,
    ),
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
    """Path of a known data set's file, its sha256 checked: QATLIB_DATA_DIR first, else the embedded file or pooch's
    cache and download.

    Raises Unavailable, or ValueError for a file that is not the one it should be.
    """
    source, folder = SOURCES[name], os.environ.get(FOLDER)
    if folder and not Path(folder).is_dir():
        raise ValueError(f"{FOLDER}={folder} is no folder; correct or unset it")
    if folder and (Path(folder) / source.file).is_file():
        return _verified(Path(folder) / source.file, source)
    if not source.published:
        return _verified(EMBEDDED / source.file, source)
    cache = pooch.os_cache("qatlib")
    pooch.get_logger().setLevel("WARNING")
    try:
        download = pooch.HTTPDownloader(timeout=TIMEOUT)
        return Path(
            pooch.retrieve(ETT_URL + source.file, f"sha256:{source.sha256}", source.file, cache, downloader=download)
        )
    except (OSError, ValueError) as error:  # no network, no room, or another file than expected came
        raise Unavailable(
            f"{source.file} could not be downloaded ({type(error).__name__}: {str(error)[:100]}). Set {FOLDER} "
            f"to a folder that holds it, "
            f"or put it at {cache / source.file}, or take DATA=jfk-weather. It is {ETT_URL}{source.file}"
        ) from error


def _verified(path, source):
    if _sha256(path) != source.sha256:
        raise ValueError(
            f"{path} is not the {source.file} that is expected (sha256 {source.sha256}); replace or remove it"
        )
    return path


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
