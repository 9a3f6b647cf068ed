"""The live page in a browser: its integers are those of NumPy, whatever is chosen, moved or dropped."""

import base64
import json
import re

import numpy as np
import pytest

from qatlib import data
from qatlib.data import cleaning, csv_file
from qatlib.device import shipped
from qatlib.live import pack
from qatlib.live import page as live_page
from qatlib.make import kept_output
from tests.data.files import LINES, spoiled, write
from tests.site.conftest import PHONE

FORECASTER = "jfk-weather", "patch-c336-d16-w4a4"
CATALOGUE = pack.catalogue()
EVIL = '<img src=x onerror="document.title=1">'


@pytest.fixture
def live(opened):
    page, complaints = opened("live/index.html")
    proved(page)
    yield page
    assert complaints == []


def proved(page, state="equal"):
    page.locator(f"#proof[data-state={state}]").wait_for(timeout=20_000)


def choose(page, entry):
    for select, name in (("#task", "task"), ("#shape", "family"), ("#bits", "bits")):
        if page.is_visible(select):  # where there is a choice
            page.select_option(select, entry[name])
    page.wait_for_function("digest => document.getElementById('committed').textContent === digest", arg=digest(entry))


def digest(entry):
    return shipped.outputs()[tuple(entry["key"].split("/"))]


def integers(page, column=1):
    """A column of the table of integers."""
    found = numbers(page, column)
    assert all(number == int(number) for number in found)
    return [int(number) for number in found]


def numbers(page, column):
    texts = page.locator(f"#values tr > *:nth-child({column + 1})").all_inner_texts()
    return [float(text.split()[0].replace(",", "").replace("−", "-")) for text in texts]


def drop(page, content, name="sensor.csv"):
    content = content if isinstance(content, bytes) else content.encode()
    page.set_input_files("#file", {"name": name, "mimeType": "text/csv", "buffer": content})
    page.wait_for_function(
        "document.getElementById('fault').textContent || document.getElementById('opened').textContent"
    )
    return page.inner_text("#fault")


def series(rows):
    times = np.datetime64("2020-01-01", "s") + np.arange(rows) * np.timedelta64(3600, "s")
    values = 10 + 8 * np.sin(np.arange(rows) / 4) + np.random.default_rng(0).normal(size=rows)
    return "\n".join(["date,value,other", *(f"{t},{v:.3f},{v / 2:.2f}" for t, v in zip(times, values, strict=True))])


def test_every_shipped_model_computes_what_is_committed(live):
    for entry in CATALOGUE:
        choose(live, entry)
        proved(live)
        assert live.inner_text("#here") == digest(entry), entry["key"]


def test_a_model_that_computes_something_else_is_told(opened):
    """One byte of its weights is another."""
    page, _ = opened("live/index.html")
    entry = next(entry for entry in CATALOGUE if entry["key"] == "jfk-weather/patch-c336-d16-w8a8")

    def changed(route):
        held = json.loads(route.fetch().body())
        content = bytearray(base64.b64decode(held["wasm"]))
        content[-2000] ^= 1
        route.fulfill(json=held | {"wasm": base64.b64encode(bytes(content)).decode()})

    page.route("**/patch-c336-d16-w8a8.json", changed)
    choose(page, entry)
    proved(page, "different")
    assert page.inner_text("#here") != digest(entry)


def test_a_model_that_is_missing_is_told(opened):
    page, _ = opened("live/index.html")
    page.route("**/models/**", lambda route: route.fulfill(status=404))
    page.select_option("#bits", "W2A2")
    page.wait_for_function("document.getElementById('fault').textContent")
    assert "models/jfk-weather/patch-c336-d16-w2a2.json answers 404" in page.inner_text("#fault")


def test_the_forecast_that_is_shown_is_numpys(live):
    model, (counts, truth) = shipped.load(*FORECASTER), shipped.windows(FORECASTER[0])
    for at in (0, 200):
        live.locator("#place").fill(str(at))
        assert integers(live) == model.forward(counts[at : at + 1])[0].tolist()
    np.testing.assert_allclose(numbers(live, 4), truth[200] * model.resolution, atol=1e-9)
    floats = np.array(numbers(live, 2)) * model.resolution  # which have tests of their own
    assert 0 < np.abs(floats - numbers(live, 3)).max() < 1


def test_states_and_scores_that_are_shown_are_numpys(live):
    entry = next(entry for entry in CATALOGUE if entry["task"] == "classify")
    choose(live, entry)
    model, (counts, _) = shipped.load(*entry["key"].split("/")), shipped.windows("occupancy")
    for at in (10, 300):
        live.locator("#place").fill(str(at))
        labels, scores = model.classify(counts[at : at + 1])
        assert integers(live) == scores[0].tolist()
        assert f"Decided: {model.labels[labels[0]]}." in live.inner_text("#summary")


def test_flags_and_scores_that_are_shown_are_numpys(live):
    entry = next(entry for entry in CATALOGUE if entry["task"] == "detect")
    choose(live, entry)
    dataset, name = entry["key"].split("/")
    scores, flags = shipped.load(dataset, name).detect(shipped.recording(dataset)[0])
    for at in (150, int(flags.argmax()) + 3, len(flags) - 1):
        live.locator("#place").fill(str(at))
        assert integers(live) == scores[at - 7 : at + 1][::-1].tolist()
        told = live.locator("#values td:nth-child(4)").all_inner_texts()
        assert [text == "faulty" for text in told] == flags[at - 7 : at + 1][::-1].tolist()


def test_a_sample_is_moved_by_keys_and_by_pointer(live):
    """The window's last sample; undo brings back what was."""
    model, (counts, _) = shipped.load(*FORECASTER), shipped.windows(FORECASTER[0])
    before, handle = integers(live), live.locator("#chart .handle")
    live.locator("#undo").evaluate("button => button.disabled || (() => { throw Error('nothing was moved') })()")
    handle.focus()
    live.keyboard.press("PageUp")
    moved = counts[0].copy()
    moved[-1] = round(float(handle.get_attribute("aria-valuenow")) / model.resolution)
    assert moved[-1] > counts[0, -1] and "now" in handle.get_attribute("aria-valuetext")
    assert integers(live) == model.forward(moved[None])[0].tolist() != before
    live.keyboard.press("ArrowLeft")
    assert "1 hour ago" in handle.get_attribute("aria-valuetext")
    live.locator("#undo").press("Enter")
    assert integers(live) == before
    box = live.locator("#chart").bounding_box()
    live.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    live.mouse.down()
    live.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + 90, steps=4)
    live.mouse.up()
    assert integers(live) != before


def test_it_plays_and_stops_by_keys(live):
    button, place = live.locator("#play"), live.locator("#place")
    button.press("Enter")
    live.wait_for_function("Number(document.getElementById('place').value) > 3")
    button.press("Space")
    assert button.inner_text() == "Play" and live.locator("#summary").is_visible()
    at = place.input_value()
    place.press("ArrowRight")
    assert int(place.input_value()) == int(at) + 1


def test_controls_are_reached_by_tab_and_have_names(live):
    reached = set()
    for _ in range(30):
        live.keyboard.press("Tab")
        reached.add(live.evaluate("document.activeElement.id || document.activeElement.getAttribute('class')"))
    assert reached >= {"task", "shape", "bits", "handle", "play", "place", "whole", "file"}
    unnamed = (
        "[...document.querySelectorAll('select, input')].filter((part) => !part.labels.length).map((part) => part.id)"
    )
    assert live.evaluate(unnamed) == []


def test_a_file_of_nine_thousand_rows(live, tmp_path):
    """Its first forecast is there within a second, and is that of Python on the same file."""
    text = series(9000)
    assert drop(live, text) == ""
    assert int(re.search(r"(\d+) ms", live.inner_text("#opened"))[1]) <= 1000
    model = shipped.load(*FORECASTER)
    values = data.load(str(write(tmp_path, text)), target="value").values
    counts = np.floor(values[: model.context] / model.resolution + 0.5).astype(np.int16)
    assert integers(live) == model.forward(counts[None])[0].tolist()
    live.select_option("#column", "other")
    assert integers(live) != model.forward(counts[None])[0].tolist()
    live.click("#forget")
    assert "JFK" in live.inner_text("#data")


def test_a_file_is_dropped_anywhere(live):
    live.evaluate(
        """text => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([text], "dropped.csv"));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        series(400),
    )
    live.wait_for_function("document.getElementById('opened').textContent")
    assert "dropped.csv, value: 400 rows, which stay in this browser" in live.inner_text("#data")


FAULTS = {
    "no number": spoiled("2020-01-01 12:00:00,n/a"),
    "no time": spoiled("2020-01-01 25:00:00,1"),
    "short": spoiled("2020-01-01 12:00:00"),
    "late": spoiled("2020-01-01 09:30:00,1"),
    "twice": spoiled("2020-01-01 11:00:00,1"),
    "placeholder": spoiled("2020-01-01 12:00:00,-999"),
    "zone": spoiled("2020-01-01 12:00:00Z,12"),
    "open mark": spoiled('2020-01-01 12:00:00,"12'),
    "empty": "",
    "one column": "value\n1\n",
    "no header": "\n".join(LINES[1:]),
    "few rows": "\n".join(LINES[:5]),
    "no UTF-8": spoiled("2020-01-01 12:00:00,3 °C").encode("latin-1"),
    "hostile": spoiled(f"2020-01-01 12:00:00,{EVIL}").replace("value", "<script>"),
}


def test_faults_are_told_in_the_words_of_python_and_as_text(live, tmp_path):
    for name, content in FAULTS.items():
        path = write(tmp_path, content)
        with pytest.raises(ValueError) as error:
            cleaning.check(csv_file.read(path), path)
        expected = str(error.value).replace(f"{tmp_path}/", "").partition(";")[0]
        assert drop(live, content).startswith(expected), name
    assert live.locator("main img, main script").count() == 0 and live.title() != "1"


def test_a_file_that_the_model_cannot_take(live):
    assert "too few rows: no window of 336 samples fits its 300 rows" in drop(live, series(300))
    gap = "\n".join(line for i, line in enumerate(series(600).splitlines()) if i != 300)
    assert "too few rows: no window of 336 samples fits its 599 rows, and gaps cut all 264" in drop(live, gap)
    far = re.sub(r"(?m)^(2020-01-02T16:00:00),[^,]*", r"\1,1000", series(700))
    assert "line 42: 1000 in column 'value' is outside the sensor's range of ±65.534" in drop(live, far)
    live.select_option("#task", "classify")
    live.wait_for_function("document.getElementById('fault').textContent.includes('Temperature')")
    assert "no column 'Temperature', which this model reads; its columns are 'date', 'value'" in live.inner_text(
        "#fault"
    )


def test_no_task_scrolls_sideways_on_a_phone(opened):
    page, _ = opened("live/index.html", PHONE)
    for task in ("forecast", "classify", "detect"):
        page.select_option("#task", task)
        proved(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], task


def test_the_output_that_the_notebook_keeps_runs_without_a_network(opened, tmp_path):
    page, complaints = opened("live/index.html")
    page.route("**/*", lambda route: route.abort())
    page.set_content("".join(kept_output.output()["data"]["text/html"]))
    page.frame_locator("iframe").locator("#proof[data-state=equal]").wait_for(timeout=20_000)
    assert complaints == []


def test_the_page_is_what_the_code_makes(opened, address):
    page, _ = opened("live/index.html")
    made = live_page.page(CATALOGUE, [live_page.FIRST], live_page.LEAD + live_page.HOME)
    assert page.request.get(f"{address}/live/index.html").text() == made
