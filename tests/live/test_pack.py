"""What the live page is told of the shipped models, and how the page is put together."""

import csv
import json
import re

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.live import pack, page
from qatlib.system import paths

NAMED = [entry["key"].split("/") for entry in pack.catalogue()]


def test_every_shipped_model_can_be_chosen_and_the_usual_one_comes_first():
    entries = pack.catalogue()
    assert {tuple(entry["key"].split("/")) for entry in entries} == set(shipped.outputs())
    assert (entries[0]["task"], entries[0]["family"]) == ("forecast", page.FIRST.rpartition("-")[0])
    of_family = [(entry["family"], entry["bits"]) for entry in entries]
    assert len(set(of_family)) == len(entries)


@pytest.mark.parametrize("dataset, name", [page.FIRST.split("/"), *NAMED[-2:], ["etth1", "point-w24-d16-h24-mixed"]])
def test_a_pack_holds_what_is_committed(dataset, name):
    held, model = page.packed(f"{dataset}/{name}"), shipped.load(dataset, name)
    assert held["sha256"] == shipped.outputs()[dataset, name]
    assert held["windows"] == len(shipped.reference_windows(dataset, model)) == 512
    assert held["size_bytes"] == model.size_bytes
    assert json.loads(json.dumps(held, allow_nan=False)) == held
    assert {cost["evidence"] for cost in held["costs"]} <= {"measured", "simulated", "estimated"}


def test_cycles_are_those_of_the_tables():
    with (paths.OVERLAYS / "engine" / "measured" / "engine.csv").open() as file:
        cycles = {(row["config"], row["model"]): int(row["cycles"]) for row in csv.DictReader(file)}
    costs = page.packed(page.FIRST)["costs"]
    shown = {cost["chip"].partition("engine ")[2]: cost["number"] for cost in costs if "engine " in cost["chip"]}
    assert shown == {config: cycles[config, page.FIRST.split("/")[1]] for config in ("xc7s15", "pynq-z2", "kv260")}
    assert sum(cost["evidence"] == "estimated" for cost in costs) == 3  # microcontrollers


def test_a_recording_is_played_to_models_of_its_resolutions_alone():
    for dataset, (*_, played) in pack.SETS.items():
        steps = {tuple(np.ravel(shipped.load(of, shipped.names(of)[0]).resolution)) for of in (dataset, played)}
        assert len(steps) == 1, dataset


def test_modules_are_joined_without_a_name_twice():
    assert {f"{name}.js" for name in page.MODULES} == {path.name for path in page.HERE.glob("*.js")}
    text = page.script()
    assert "import " not in re.sub(r"await import\(", "", text).replace("imported", "") and "export " not in text
    names = re.findall(r"^(?:async )?(?:function\*? |class |const |let )([\w$]+)", text, re.MULTILINE)
    assert len(names) == len(set(names)) > 40


def test_the_page_is_small_and_asks_for_nothing_from_elsewhere():
    text = page.page(pack.catalogue(), [page.FIRST], page.LEAD)
    assert len(text.encode()) <= 150_000
    assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_no_text_of_a_model_ends_the_script_that_holds_it(monkeypatch):
    monkeypatch.setitem(pack.SETS, "occupancy", ("</script><b>", *pack.SETS["occupancy"][1:]))
    assert "</script><b>" not in page.page(pack.catalogue(), [], "")


def test_a_block_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(page, "MOST", 1000)
    with pytest.raises(ValueError, match=r"the live model takes .* bytes of 1,000: leave out one of"):
        page.block([page.FIRST])
