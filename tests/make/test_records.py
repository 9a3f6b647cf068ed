"""What a notebook depends on, and what it left when it was finished."""

import json
import os

import pytest

from qatlib.make import manifest, records
from qatlib.system import disk, paths

RECORD = {"key": "0", "outputs": {}, "seconds": 1.0, "about": {"data": "made-up", "profile": "quick"}}


def test_the_fingerprint_follows_contents(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "EXECUTED", tmp_path)
    monkeypatch.setattr(records, "OVERLAYS", tmp_path / "overlays")
    notebook, data = tmp_path / "01_trial.ipynb", tmp_path / "own.csv"
    notebook.write_text("a")
    data.write_text("1")
    parameters = {"data": str(data)}
    seen = {records.fingerprint(notebook, parameters, ["00_before"])}

    def changed():
        before = len(seen)
        seen.add(records.fingerprint(notebook, parameters, ["00_before"]))
        return len(seen) > before

    os.utime(data)
    assert not changed()
    data.write_text("2")
    assert changed()
    notebook.write_text("b")
    assert changed()
    (tmp_path / "00_before.json").write_text(json.dumps(RECORD | {"key": "of another source"}))
    assert changed()
    for measured in ("engine/measured/engine.csv", "models/models.json"):
        disk.make((tmp_path / "overlays" / measured).parent)
        (tmp_path / "overlays" / measured).write_text("config")
        assert changed(), measured


def test_a_file_of_two_notebooks_is_judged_by_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "EXECUTED", tmp_path)
    for name in ("01_first", "02_second", "03_third"):
        (tmp_path / f"{name}.json").write_text(
            json.dumps(RECORD | {"outputs": {"shared.csv": "0", f"{name}.csv": "0"}})
        )
    records.disown("02_second", ["shared.csv"])
    outputs = {path.stem: set(json.loads(path.read_text())["outputs"]) for path in tmp_path.glob("*.json")}
    assert outputs == {
        "01_first": {"01_first.csv"},
        "02_second": {"shared.csv", "02_second.csv"},
        "03_third": {"shared.csv", "03_third.csv"},
    }


def test_a_notebook_runs_after_those_it_takes_results_from(tmp_path):
    for name in ("02_float", "03_ptq", "04_qat", "08_low", "11_verdict", "13_more"):
        (tmp_path / f"{name}.ipynb").touch()
    assert records.sources(tmp_path / "11_verdict.ipynb") == ["03_ptq", "04_qat", "08_low"]
    assert records.sources(tmp_path / "03_ptq.ipynb") == ["02_float"]
    assert records.sources(tmp_path / "13_more.ipynb") == []
    assert records.SOURCES.keys() <= {path.stem[:2] for path in paths.NOTEBOOKS.glob("[0-9]*.ipynb")}


BROKEN = [b"", b"{", b"null", b"[]", b"7", b'"text"', b"{}", b"\xff", b"[" * 100_000]
BROKEN += [
    json.dumps(RECORD | change).encode()
    for change in ({"outputs": []}, {"outputs": None}, {"key": 0}, {"seconds": "1"})
]
BROKEN += [json.dumps(RECORD | {"about": about}).encode() for about in (None, [], {}, {"data": 1, "profile": "quick"})]


@pytest.mark.parametrize("content", BROKEN)
def test_what_is_no_record_was_never_finished(tmp_path, monkeypatch, content):
    monkeypatch.setattr(records, "EXECUTED", tmp_path)
    for name in ("01_trial", "02_next"):
        (tmp_path / f"{name}.ipynb").touch()
    (tmp_path / "01_trial.json").write_text(json.dumps(RECORD))
    assert records.is_current("01_trial", "0")
    (tmp_path / "01_trial.json").write_bytes(content)
    assert not records.is_current("01_trial", "0") and records.read("01_trial") == {}
    records.disown("02_next", ["a.csv"])
    monkeypatch.setattr(records, "MANIFEST", tmp_path / "manifest.json")
    manifest.write(tmp_path / "01_trial.ipynb", {})
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"seconds": {}, "commits": {}}
