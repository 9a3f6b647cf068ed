"""Figures and the live panel, on an engine that is NumPy; what is seen has to be what was computed."""

import asyncio
import csv
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from qatlib.board import panel
from qatlib.board.times import Times
from qatlib.device.replay import Replay, by_width, shipped
from qatlib.system import paths
from tests import several_channels

matplotlib.use("agg")


class NumpyEngine:
    """Loads and runs a model as the driver does."""

    note, model, last_run = "simulated RTL pynq-z2 at 100 MHz", None, None

    def load(self, model):
        self.model = model

    def run(self, counts):
        self.last_run = Times(100.0, True, len(counts), 3e-6 * len(counts), 2e-6 * len(counts), 1e-6 * len(counts))
        return self.model.forward(counts)


@pytest.fixture(scope="module")
def replay():
    whole = shipped()
    return Replay("sensor", whole.models, whole.windows[:5], whole.truth[:5])


@pytest.fixture(scope="module", params=["seven independent", "five mixed, two forecast"])
def several(request):
    """Of several channels, all or some of them forecast."""
    model = several_channels.MODELS[request.param]
    windows = several_channels.windows(model, 3, 5)
    truth = several_channels.windows(model, 9, 5)[:, : model.horizon, list(model.targets)]
    return Replay("sensors", {"W8A8": model, "W4A4": replace(model, name="again")}, windows, truth)


@pytest.fixture
def engine():
    return NumpyEngine()


@pytest.fixture
def figures(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    monkeypatch.setattr(paths, "TABLES", tmp_path / "tables")
    return tmp_path


def test_shipped_models_are_of_one_kind_widest_first(replay):
    assert list(replay.models) == ["W8A8", "W4A4", "W2A2"]
    assert {(m.context, m.horizon, m.resolution) for m in replay.models.values()} == {(336, 24, replay.resolution)}
    assert list(by_width({"a-b-w2a4": 1, "a-b-w8a8": 2})) == ["W8A8", "W2A4"]


def test_truth_of_a_window_begins_the_next(replay):
    np.testing.assert_array_equal(replay.windows[1:, -1], replay.truth[:-1, 0])


def test_what_does_not_go_together_is_not_played(replay, several):
    model, (label, other) = replay.models["W8A8"], next(iter(several.models.items()))
    for changed, message in (
        ({"windows": replay.windows[:, :48]}, r"windows have shape \(48,\), the model W8A8 is for \(336,\)"),
        ({"truth": replay.truth[:, :, None]}, r"truth has shape \(24, 1\), the model W8A8 is for \(24,\)"),
        ({"models": {"W8A8": model, label + "x": other}}, "play what goes together"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(replay, **changed)
    channels = (replace(other.channels[0], resolution=9.0), *other.channels[1:])
    with pytest.raises(ValueError, match="the first model has channels"):
        replace(several, models={"W8A8": other, "W4A4": replace(other, channels=channels)})
    with pytest.raises(ValueError, match="no channel 'nothing' is forecast; there are sensor"):
        several.step("nothing")


def test_play_takes_every_window_through_every_model(engine, replay):
    forecasts, times = panel.play(engine, replay)
    assert list(forecasts) == list(times) == list(replay.models)
    for label, model in replay.models.items():
        np.testing.assert_array_equal(forecasts[label], model.forward(replay.windows))
    assert times["W4A4"].per_window() == pytest.approx({"python": 3, "bus": 2, "engine": 1})


def test_the_fastest_run_counts(engine, replay, monkeypatch):
    seconds = iter([5.0, 2.0, 9.0] * 3)
    plain = engine.run

    def run(counts):
        forecast = plain(counts)
        engine.last_run.python = next(seconds)
        return forecast

    monkeypatch.setattr(engine, "run", run)
    assert [t.python for t in panel.play(engine, replay)[1].values()] == [2.0, 2.0, 2.0]


def test_error_and_typical_window(replay):
    offsets = np.array([[5], [1], [3], [2], [4]], np.int16)
    forecast = (replay.truth + offsets).astype(np.int16)
    assert panel.mean_error(forecast, replay) == pytest.approx(3 * replay.resolution)
    assert panel.typical(forecast, replay) == 2


def test_forecast_figure_shows_units_and_every_width(replay):
    at = 3
    ax = panel.plot_forecast(
        replay, at, {label: m.forward(replay.windows[at : at + 1])[0] for label, m in replay.models.items()}
    )
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert {"truth so far", "what followed", "forecast W8A8", "forecast W4A4", "forecast W2A2"} < set(lines)
    assert lines["truth so far"].get_ydata()[-1] == pytest.approx(replay.windows[at, -1] * replay.resolution)
    assert lines["truth so far"].get_xdata()[-1] == 0
    np.testing.assert_allclose(lines["what followed"].get_ydata(), replay.truth[at] * replay.resolution)


def test_every_channel_has_its_own_units_and_truth(engine, several):
    model = several.models["W8A8"]
    forecasts = panel.play(engine, several)[0]["W8A8"]
    assert several.channels == tuple(model.channels[i].name for i in model.targets)
    for place, channel in enumerate(several.channels):
        target = model.targets[place]
        step = model.channels[target].resolution
        ax = panel.plot_forecast(several, 2, {"W4A4": forecasts[2]}, channel=channel)
        lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
        np.testing.assert_allclose(lines["truth so far"], several.windows[2, -panel.PAST :, target] * step)
        np.testing.assert_allclose(lines["what followed"], several.truth[2, :, place] * step)
        np.testing.assert_allclose(lines["forecast W4A4"], forecasts[2, :, place] * step)
        assert ax.get_ylabel() == f"{channel} (sensor units)"
        errors = np.abs(forecasts[:, :, place].astype(int) - several.truth[:, :, place]).mean(axis=1)
        assert panel.mean_error(forecasts, several, channel) == pytest.approx(errors.mean() * step)
        assert panel.mean_error(forecasts[3:], several, channel, first=3) == pytest.approx(errors[3:].mean() * step)
        assert panel.typical(forecasts, several, channel) == np.argsort(errors, kind="stable")[2]
    assert panel.mean_error(forecasts, several) == panel.mean_error(forecasts, several, several.channels[0])


def test_width_keeps_its_colour(replay):
    forecast = replay.truth[0]
    together = panel.plot_forecast(replay, 0, dict.fromkeys(replay.models, forecast)).get_lines()
    alone = panel.plot_forecast(replay, 0, {"W2A2": forecast}).get_lines()
    colours = [
        next(line.get_color() for line in lines if line.get_label() == "forecast W2A2") for lines in (together, alone)
    ]
    assert colours[0] == colours[1]
    assert len({line.get_color() for line in together if line.get_label().startswith("forecast")}) == 3


@pytest.mark.parametrize(
    "simulated, words", [(True, "at 100 MHz, simulated; Python: this computer"), (False, "at 100 MHz, on the board")]
)
def test_times_figure(simulated, words):
    ax = panel.plot_times(
        {"W8A8": Times(100.0, simulated, 2, 2e-6, 4e-6, 6e-6), "W4A4": Times(100.0, simulated, 2, 2e-6, 4e-6, 2e-6)}
    )
    assert [patch.get_width() for patch in ax.patches] == pytest.approx([1, 1, 2, 2, 3, 1])
    assert words in ax.get_xlabel()


def test_saved_figure_says_what_it_is(figures, engine, replay):
    figure = panel.save(
        panel.plot_forecast(replay, 0, {}), "07_x", {"step": [1, 2], "value": [3.5, "a"]}, replay, engine
    )
    assert figure.get_suptitle() == "sensor; simulated RTL pynq-z2 at 100 MHz"
    assert (figures / "07_x.png").stat().st_size > 1000 and "<svg" in (figures / "07_x.svg").read_text()
    assert list(csv.reader((figures / "07_x.csv").open())) == [["step", "value"], ["1", "3.5"], ["2", "a"]]


def test_a_title_is_no_mathematics(figures, engine, replay):
    title = "$\\frac{$, va_l$ue"
    figure = panel.save(panel.plot_forecast(replay, 0, {}), "07_x", {"step": [1]}, replace(replay, title=title), engine)
    assert figure.get_suptitle().startswith(title)


def test_table_is_kept_and_aligned(figures):
    assert panel.table("07_t", {"width": ["W8A8"], "n": [5]}) == "width  n\n W8A8  5"
    assert (figures / "tables" / "07_t.csv").read_text() == "width,n\nW8A8,5\n"


def test_steps_follow_the_windows_and_begin_again(engine, replay):
    live = panel.Live(engine, replay)  # has done the first step
    model = replay.models["W8A8"]
    for at in (1, 2, 3, 4, 0):
        np.testing.assert_array_equal(live.step(), model.forward(replay.windows[at : at + 1])[0])
    expected = panel.mean_error(model.forward(replay.windows), replay)
    assert np.mean(live.errors["channel"]["W8A8"][:5]) == pytest.approx(expected)
    assert "W8A8" in live.axes.get_xlabel() and "(6)" in live.axes.get_xlabel()
    assert "simulated RTL" in live.figure.get_suptitle()


def test_buttons_play_switch_and_stop(engine, replay):
    pytest.importorskip("ipywidgets")
    live = panel.Live(engine, replay, pause=0)
    live.show()
    first = live.image.value

    async def reader():
        live.button.value = True
        await until(lambda: len(live.errors["channel"]["W8A8"]) > 2)
        live.widths.value = "W2A2"
        await until(lambda: len(live.errors["channel"]["W2A2"]) > 1)
        live.button.value = False
        await live.task

    async def until(condition):
        while not condition():
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(reader(), 60))
    assert bytes(live.image.value[:4]) == b"\x89PNG" and live.image.value != first
    assert not live.errors["channel"]["W4A4"] and engine.model is replay.models["W2A2"]
    assert live.message.value == ""


def test_a_channel_is_chosen_and_drawn_at_once(engine, replay, several):
    pytest.importorskip("ipywidgets")
    live = panel.Live(engine, several)
    controls = live.show().children[0].children
    assert live.channels.options == several.channels and live.channels in controls
    first, at, last = live.image.value, live.at, several.channels[-1]
    live.channels.value = last
    assert live.image.value != first and live.at == at
    assert live.axes.get_ylabel() == f"{last} (sensor units)"
    live.step()
    forecasts = several.models["W8A8"].forward(several.windows)
    for channel in several.channels:  # those that are not drawn too
        expected = panel.mean_error(forecasts[:2], several, channel)
        assert np.mean(live.errors[channel]["W8A8"]) == pytest.approx(expected)
    assert f"{panel.mean_error(forecasts[:2], several, last):.3g} (2)" in live.axes.get_xlabel()
    assert len(panel.Live(engine, replay).show().children[0].children) == 2  # of a single channel there is no choice


def test_what_goes_wrong_stands_in_the_panel(engine, replay, monkeypatch):
    pytest.importorskip("ipywidgets")
    live = panel.Live(engine, replay)
    live.show()

    def fail(counts):
        raise RuntimeError("the engine stopped")

    monkeypatch.setattr(engine, "run", fail)

    async def reader():
        live.button.value = True
        await live.task

    asyncio.run(asyncio.wait_for(reader(), 60))
    assert live.message.value == "RuntimeError: the engine stopped"
    assert not live.button.value


def test_without_widgets_the_picture_stands_still(engine, replay, monkeypatch):
    monkeypatch.setattr(panel, "ipywidgets", None)
    live = panel.Live(engine, replay)
    assert live.show() is live.figure and live.axes.get_lines()


@pytest.fixture(scope="module", params=list(several_channels.CLASSIFIERS))
def labelled(request):
    model = several_channels.CLASSIFIERS[request.param]
    windows = several_channels.windows(model, 3, 5)
    truth = model.classify(windows)[0]
    truth[4] = (truth[4] + 1) % len(model.labels)
    return Replay("office", {"W4A4": model}, windows, truth)


def test_a_recording_is_played_with_its_labels(engine, labelled):
    model = labelled.models["W4A4"]
    assert labelled.channels == tuple(channel.name for channel in model.channels)
    live = panel.Live(engine, labelled)
    for _ in range(4):
        live.step()
    assert live.told["W4A4"] == dict(enumerate(model.classify(labelled.windows)[0].tolist()))
    assert live.errors[live.channel]["W4A4"] == [0, 0, 0, 0, 1]
    assert "share told wrongly so far (windows): W4A4 0.2 (5)" in live.axes.get_xlabel()
    assert [text.get_text() for text in live.axes.get_legend().texts] == list(model.labels)


def test_what_was_told_stands_under_the_truth(labelled):
    axes = panel.plot_labels(labelled, 4, {4: int(labelled.truth[4])}, channel=labelled.channels[-1])
    drawn = {(x, line.get_ydata()[0]): line.get_color() for line in axes.lines[1:] for x in line.get_xdata()}
    shown = min(5, labelled.windows.shape[1])
    assert {x for x, height in drawn if height == 0.93} == set(range(1 - shown, 1))
    assert [x for x, height in drawn if height == 0.86] == [0]  # nothing was told of the others
    assert drawn[0, 0.93] == drawn[0, 0.86] == f"C{labelled.truth[4]}"
    assert labelled.channels[-1] in axes.get_ylabel()


def test_a_label_for_every_window(labelled):
    with pytest.raises(ValueError, match=r"truth has shape \(1,\), the model W4A4 is for \(\)"):
        replace(labelled, truth=labelled.truth[:, None])
