"""The verdict: money and gates by hand, one model on every target, and the page that is filled in from the tables."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from qatlib.device import shipped
from qatlib.engine import CONFIGS
from qatlib.runs.experiment import Experiment
from qatlib.studies import accelerator, assessment, cost, measured, plan, report, style
from qatlib.studies.cost import Option, Terms
from qatlib.system import paths
from qatlib.system.measurements import Measurement

TERMS = Terms(years=2, megabyte=0.5, battery=1000.0, visit=10.0)
CLOUD, DEVICE = Option("cloud", 10, 1000, 5, 1e6, 100.0), Option("device", 30, 21_000, 1, 0.0, 10.0)


def test_money_by_hand():
    assert TERMS.a_device(CLOUD) == {
        "unit": 10,
        "upkeep": 10,
        "data": pytest.approx(365),
        "batteries": pytest.approx(720),
    }
    assert TERMS.total(DEVICE, 10) == pytest.approx(21_000 + 10 * (30 + 2 + 0 + 63))
    assert TERMS.a_device(Option("frugal", 0, 0, 0, 0, 1.0))["batteries"] == 0  # the first one is not used up


def test_break_even_is_where_totals_meet():
    devices = TERMS.break_even(DEVICE, CLOUD)
    assert devices == pytest.approx(20_000 / (1105 - 95)) and TERMS.total(DEVICE, devices) == pytest.approx(
        TERMS.total(CLOUD, devices)
    )
    assert TERMS.break_even(CLOUD, DEVICE) == np.inf
    assert TERMS.break_even(Option("free", 0, 0, 0, 0, 0), CLOUD) == 0
    assert TERMS.break_even(CLOUD, CLOUD) == 0 and TERMS.break_even(replace(CLOUD, engineering=2000), CLOUD) == np.inf


PRICES = {
    "cloud over NB-IoT or LTE-M": (14, 30_000, 12),
    cost.M4.name: (14, 80_000, 2),
    cost.SWITCHED: (39, 150_000, 2),
}
ERRORS = {("PTQ", 8): 0.05, ("PTQ", 4): 0.052, ("PTQ", 2): 0.07, ("QAT", 8): 0.05, ("QAT", 4): 0.051, ("QAT", 2): 0.06}
ERRORS |= {(assessment.LINEAR, 4): 0.054}
DECISIONS = {
    "room": [0.913, 0.714], "room_size": 1921.0, "room_float": [0.925, 0.726], "room_rival": "majority",
    "room_baseline": [0.437, 0.438], "faults": [0.519], "faults_size": 742.0, "faults_float": [0.521],
    "faults_guard": [0.627],
}  # fmt: skip
COUNTS = {"rv32imc": 600_000, "cortex-m4": 200_000, "xc7s15": 1_500, "pynq-z2": 500}  # instructions or cycles


def made_up_verdict():
    """Every method on every target, of round numbers that are nobody's results."""
    error = {"mse_evidence": "measured", "mse": 0.05}
    rows = [
        error | assessment._on_laptop(200.0) | {"method": "float, PyTorch", "weight_bits": 32, "size_bytes": 40_000}
    ]
    for cloud, radio in cost.CLOUDS.items():
        sent = assessment._estimated(cost.LAPTOP, 1e6 * radio.seconds.typical, "estimated")
        rows.append(error | sent | {"method": "float, in the cloud", "target": cloud})
    rows += [
        error | {"method": m, "target": "any", "mse": 0.06, "size_bytes": 30_000} for m in ("persistence", "ridge")
    ]
    rows += assessment._published()
    for (method, bits), mse in ERRORS.items():
        about = {"method": method, "weight_bits": bits, "activation_bits": bits, "size_bytes": 2_000 * bits}
        about |= {"mse": mse, "mse_evidence": "measured"}
        rows.append(about | assessment._on_laptop(7.0))
        for key, count in COUNTS.items():
            evidence = "simulated" if key in CONFIGS else "estimated"
            took = assessment._estimated(cost.DEVICES[key], count, evidence)
            rows.append(about | took | {"target": cost.TARGETS[key]})
            if key == "xc7s15":
                rows.append(rows[-1] | {"target": cost.SWITCHED} | assessment._with_start(cost.FPGA, count))
    return pd.DataFrame(rows, columns=[*assessment.VERDICT_COLUMNS, "count"])


@pytest.fixture(scope="module")
def tables():
    """What notebook 11 writes, of that verdict."""
    verdict, terms = made_up_verdict(), Terms(years=5, megabyte=0.5, battery=32_400, visit=40)
    options = assessment.options(verdict, PRICES, 3600)
    crossings = cost.break_even(options, terms)
    checked = pd.DataFrame({"outputs": [10], "equal": [10]})
    detection = pd.DataFrame({"strength": [0.0, 3.0], "found": [0.0, 99], "distrusted": [0.0, 99], "bar": [3.0, 3.0]})
    methods = verdict.drop_duplicates(METHOD_COLUMNS[:3]).assign(mse_validation=lambda t: t["mse"] + 0.01)
    return {
        "verdict": verdict,
        "methods": methods,
        "decisions": DECISIONS,
        "11_verdict": assessment.by_target(verdict, 3600),
        "11_gates": plan.gates(verdict, checked, detection, crossings),
        "11_break_even": crossings,
        "11_money": cost.money(options, terms, 3600),
    }


def every_value_has_its_evidence(verdict):
    assert list(verdict.columns) == [*assessment.VERDICT_COLUMNS, "count"]
    for value in ("mse", "latency_us", "energy_uj"):
        evidence = verdict[f"{value.split('_')[0]}_evidence"]
        assert (verdict[value].notna() == evidence.notna()).all()
        assert set(evidence.dropna()) <= {"measured", "simulated", "estimated", "published"}
    assert not (verdict["energy_evidence"] == "measured").any()
    elsewhere = verdict["target"] != cost.HERE
    assert not (verdict["latency_evidence"] == "measured")[elsewhere].any()


def test_onnxruntime_is_shown_only_for_what_was_timed(monkeypatch):
    monkeypatch.setattr(Measurement, "changed", lambda self: ["the C"])
    assert assessment._onnxruntime(Experiment("quick", "jfk-weather")) == []
    timed, other = (SimpleNamespace(has_published_errors=True, context=context) for context in (336, 96))
    assert assessment._onnxruntime(other) == []
    (row,) = assessment._onnxruntime(timed)
    kept = measured.table("forecasters").set_index("forecast by")["microseconds"]
    assert row["latency_us"] in kept[kept.index.str.startswith("onnxruntime")].to_list()
    verdict = pd.DataFrame([row])
    assert assessment.note(verdict) == "forecasters: measured of an earlier state of the C"
    assert assessment.note(verdict.assign(method="QAT")) == ""


def test_one_model_on_every_target(monkeypatch):
    """Shipped models in place of trained ones; the numbers of the table are those of the parts."""
    experiment = Experiment("quick", "jfk-weather")
    subject = accelerator.TrainedModel(
        "W4A4", shipped.load("jfk-weather", "patch-c336-d16-w4a4"), shipped.windows("jfk-weather")[0]
    )
    monkeypatch.setattr(accelerator, "trained_model", lambda *_: subject)
    monkeypatch.setattr(assessment, "_floats", lambda _: [])
    table = pd.DataFrame([("QAT", 4, 4, 0.1, 0.1, subject.model.size_bytes, 1, None)], columns=[*METHOD_COLUMNS, "run"])
    verdict, checked = assessment.everywhere(experiment, table)
    every_value_has_its_evidence(verdict)
    assert (checked["outputs"] == checked["equal"]).all() and (checked["outputs"] > 0).all()
    placed = verdict.set_index("target")
    assert {"ESP32", cost.SWITCHED, *cost.TARGETS.values()} == set(placed.index)
    cycles = accelerator.latencies([subject], [assessment.CONFIGS["xc7s15"]])["cycles"].iloc[0]
    fpga, off = placed.loc[cost.IDLING], placed.loc[cost.SWITCHED]
    assert (off["latency_us"], off["energy_uj"]) == pytest.approx(
        (fpga["latency_us"] + 40_000, fpga["energy_uj"] + 11_850)
    )
    assert (fpga["latency_us"], fpga["energy_uj"]) == pytest.approx((cycles / 100, 71e-3 * cycles / 100))
    assert placed.loc["ESP32", "latency_us"] == 176_000 and np.isnan(placed.loc["ESP32", "mse"])
    day = assessment.a_day(verdict, 3600).set_index("target")["joules_a_day"]
    assert day[cost.M4.name] == pytest.approx(
        (placed.loc[cost.M4.name, "energy_uj"] / 1e3 + cost.M4.idle.typical * 3600) * 24 / 1e3
    )
    (option,) = assessment.options(
        verdict, {cost.M4.name: (1, 2, 3), cost.HERE: (4, 5, 6)}, 3600
    )  # a laptop cannot sleep
    assert option.bytes_a_day == 400 and option.joules_a_day == pytest.approx(day[cost.M4.name] + 0.274)
    with pytest.raises(ValueError, match=r"no target 'M4'; choose from .*STM32L4"):
        assessment.options(verdict, {"M4": (1, 2, 3)}, 3600)


METHOD_COLUMNS = ["method", "weight_bits", "activation_bits", "mse", "mse_validation", "size_bytes", "seeds"]


def test_a_gate_closes(tables):
    detection = pd.DataFrame(
        {"strength": [0.0, 3.0], "found": [5.0, 94.0], "distrusted": [0.2, 90.0], "bar": [3.0, 3.0]}
    )
    checked = pd.DataFrame({"outputs": [10, 10], "equal": [10, 9]})
    for crossings in (
        tables["11_break_even"],
        tables["11_break_even"].iloc[:0],
    ):  # with and without a cloud to compare with
        states = plan.gates(tables["verdict"], checked, detection, crossings).set_index("key")["state"]
        assert states["alarms"] == "passed" and states[["detection", "equal"]].eq("failed").all()
        assert states[["latency", "delivered", "break_even"]].eq("open").all()


def test_the_page_is_written_from_the_tables_of_this_run(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    monkeypatch.setattr(paths, "TABLES", tmp_path / "tables")
    for name, table in tables.items():
        if name not in ("methods", "decisions"):
            style.save_table(table, name)
    (tmp_path / "11_axes.svg").write_text("<svg/>")
    experiment = Experiment("quick", "jfk-weather")
    written = report.write(experiment, tables["methods"], tables["decisions"]).read_text(encoding="utf-8")
    windows, about = len(experiment.windows("test").rows), f"jfk-weather, {experiment.dataset.target}"
    data = re.search(r'lang="en">([^<]*); results come', written)[1]
    assert data.startswith(about) and data.endswith(f"quick profile: {windows:,} test windows, seeds: 1")
    decided = ("0.91 / 0.71", "1.92 kB", "0.44 / 0.44", "0.52 (0.52 in float)")
    for text in ("7 µs, measured", "0.0510", "0.0700", *decided):
        assert text in written


def test_every_number_comes_from_the_tables(tables):
    """Other numbers give another page, in both languages."""
    verdict = tables["11_verdict"].copy()
    verdict.loc[verdict["target"] == cost.M4.name, ["latency_us", "joules_a_day"]] = 123_400.0, 0.0987
    gates = tables["11_gates"].assign(state="failed", found=7.65)
    money = tables["11_money"].assign(engineering=4321)
    page = report.page(
        tables | {"11_verdict": verdict, "11_gates": gates, "11_money": money}, b"<svg/>", ("here", "ここ")
    )
    for text in ("123 ms", "98.7 mJ", "7.65", "4,321"):
        assert page.count(text) >= 2
    assert "✓" not in re.sub(r"<p class=\"note\">.*", "", page)


def test_what_has_no_number_is_left_out(tables):
    """No model on the FPGA, no cloud among the prices."""
    targets = tables["11_verdict"][~tables["11_verdict"]["target"].str.startswith("XC7S15")]
    money = tables["11_money"][tables["11_money"]["option"] == cost.M4.name]
    page = report.page(
        tables | {"11_verdict": targets, "11_money": money, "11_break_even": tables["11_break_even"].iloc[:0]},
        b"<svg/>",
        ("x", "x"),
    )
    assert "nan" not in page and "small FPGA" not in page and "these pay" not in page
    assert page.count("<h2>") == report.page(tables, b"<svg/>", ("x", "x")).count("<h2>") - 1


def test_prices_in_another_order_change_nothing_else(tables):
    pages = [
        report.page(tables | {"11_money": money}, b"<svg/>", ("x", "x"))
        for money in (tables["11_money"], tables["11_money"].iloc[::-1])
    ]
    leads = [re.search(r'class="lead">.*', page)[0] for page in pages]
    assert leads[0] == leads[1] and pages[0] != pages[1]


def test_a_model_that_loses_is_named_first(tables):
    gates = tables["11_gates"].copy()
    gates.loc[gates["key"] == "error_baseline", ["found", "state"]] = 25.0, "failed"
    page = report.page(tables | {"11_gates": gates}, b"<svg/>", ("x", "x"))
    lead = re.search(r'class="lead">.*', page)[0]
    assert lead.startswith('class="lead"><b>') and "by 20.0 % of its error" in lead
    assert "baseline forecasts better" not in report.page(tables, b"<svg/>", ("x", "x"))


def test_a_linear_map_as_good_on_validation_is_named_the_better_product(tables):
    methods = tables["methods"]
    linear = methods["method"] == assessment.LINEAR
    pages = []
    for behind in (1.009, 1.02):
        errors = methods["mse_validation"].mask(linear, behind * 0.061)
        pages.append(report.page(tables | {"methods": methods.assign(mse_validation=errors)}, b"<svg/>", ("x", "x")))
    assert "better product" in pages[0] and "優れた製品" in pages[0] and "+0.9 %" in pages[0]
    assert "better product" not in pages[1] and "2.0 % above" in pages[1]
    assert all("test error 0.0540, +5.9 % from" in page and "8 kB of flash" in page for page in pages)


def test_strings_are_escaped(tables):
    verdict = tables["11_verdict"].assign(method='<b onclick="x">')
    page = report.page(tables | {"11_verdict": verdict}, b"<svg/>", ("<script>alert(1)</script> & co {0}",) * 2)
    assert "<script" not in page and "<b " not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co {0}" in page and "&lt;b onclick=&quot;x&quot;&gt;" in page


def test_a_page_needs_nothing_from_outside(tables):
    page = report.page(tables, b"<svg/>", ("here", "ここ"))
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "http" not in page.replace("http://www.w3.org", "")
