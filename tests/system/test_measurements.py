"""A measurement and its stamp: what it was taken of is known again, and a change of it is seen and named."""

import json

import pytest

from qatlib.make import measured
from qatlib.system import measurements, paths
from qatlib.system.measurements import MEASUREMENTS, Measurement


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A measurement of two parts, in a tree of its own, and the only one."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for name in ("a.sv", "b.sv", "model"):
        (tmp_path / name).write_text(name)
    found = Measurement("kept/speed.csv", {"the RTL": ("*.sv",), "the model": ("model",)}, "make it")
    monkeypatch.setattr(measurements, "MEASUREMENTS", {"speed": found})
    monkeypatch.setattr(measured, "MEASUREMENTS", {"speed": found})
    return found


def test_what_is_kept_is_found_again(one, tmp_path, capsys):
    one.keep("a,b\n1,2\n", ("numpy",), compiler="cc 1")
    assert (tmp_path / "kept" / "speed.csv").read_text() == "a,b\n1,2\n"
    stamp = json.loads((tmp_path / "kept" / "speed.json").read_text())
    assert stamp == one.stamp and set(stamp["tools"]) == {"numpy", "compiler"}
    assert stamp["processor"] == measurements.processor()
    assert one.changed() == [] and measurements.note("speed") == "" and measured.main() == 0
    assert "kept/speed.csv: current" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer"])
def test_a_change_of_a_part_is_seen_and_named(one, tmp_path, capsys, change):
    one.keep("a,b\n", ())
    if change in ("content", "more"):
        (tmp_path / {"content": "a.sv", "more": "c.sv"}[change]).write_text("other")
    else:
        (tmp_path / "b.sv").rename(tmp_path / {"name": "z.sv", "fewer": "b.gone"}[change])
    assert one.changed() == ["the RTL"]
    assert measurements.note("speed") == "speed: measured of an earlier state of the RTL"
    assert measured.main() == 1
    assert "kept/speed.csv: STALE, the RTL changed: make it" in capsys.readouterr().out


def test_without_a_stamp_nothing_is_known(one):
    assert one.changed() == ["the RTL", "the model"] and measured.main() == 1


def test_every_measurement_is_there_and_of_files_that_are():
    for name, measurement in MEASUREMENTS.items():
        assert measurement.path.is_file() and measurement.stamp["tools"], name
        assert all(any(paths.ROOT.glob(pattern)) for patterns in measurement.of.values() for pattern in patterns), name


def test_the_processor_has_a_name():
    assert measurements.processor() and "\n" not in measurements.processor()
