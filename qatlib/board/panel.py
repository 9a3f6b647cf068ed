"""Figures of the running overlay, still and live: truth and forecasts as they come, and where the time goes.

Needs numpy and matplotlib; the live panel has buttons where ipywidgets is there. `save` and `table` do what `style`
does, without pandas.
"""

import asyncio
import csv
import io

import matplotlib.pyplot as plt
import numpy as np

from qatlib.system import paths

try:
    import ipywidgets
except ImportError:  # not on every board
    ipywidgets = None


plt.style.use(paths.STYLE)


PAST = 72  # samples shown before the forecast
REPEATS = 3  # of which the fastest counts: Python pauses now and then
PARTS = {"python": "Python", "bus": "bus", "engine": "engine"}
COLOURS = {"python": "0.6", "bus": "C1", "engine": "C0"}


def play(engine, replay):
    """Every window through every model. -> {label: int16 forecasts}, {label: times.Times, of the fastest of REPEATS
    runs}."""
    forecasts, times = {}, {}
    for label, model in replay.models.items():
        engine.load(model)
        runs = [(engine.run(replay.windows), engine.last_run) for _ in range(REPEATS)]
        forecasts[label], times[label] = min(runs, key=lambda run: run[1].python)
    return forecasts, times


def _errors(forecasts, replay, channel, first=0):
    """Of int16 forecasts of the windows from `first` on, of one channel: int64 counts (n, horizon)."""
    truth = replay.ahead(replay.truth, channel)[first : first + len(forecasts)]
    return np.abs(replay.ahead(forecasts, channel).astype(np.int64) - truth)


def mean_error(forecasts, replay, channel=None, first=0):
    """Mean absolute error in sensor units of int16 forecasts of the windows from `first` on. channel: see Replay."""
    return _errors(forecasts, replay, channel, first).mean() * replay.step(channel)


def typical(forecasts, replay, channel=None):
    """Number of the window with the median error of int16 forecasts. channel: see Replay."""
    errors = _errors(forecasts, replay, channel).mean(axis=1)
    return int(np.argsort(errors, kind="stable")[len(errors) // 2])


def plot_forecast(replay, at, forecasts, ax=None, channel=None):
    """Truth around window number `at`, and its forecasts {label: int16 counts of one window}, in sensor units. -> Axes.

    channel: see Replay."""
    ax = ax or plt.subplots(figsize=(7.5, 4))[1]
    step, past = replay.step(channel), replay.past(channel)[at, -PAST:]
    truth = replay.ahead(replay.truth, channel)[at]
    ahead, colours = np.arange(len(truth)) + 1, list(replay.models)
    ax.plot(np.arange(len(past)) - len(past) + 1, past * step, color="black", label="truth so far")
    ax.plot(ahead, truth * step, ":", color="black", label="what followed")
    for label, forecast in forecasts.items():
        values = replay.ahead(forecast, channel) * step
        ax.plot(ahead, values, color=f"C{colours.index(label)}", label=f"forecast {label}")
    ax.axvline(0, color="0.7", lw=1)
    name = (channel or replay.channels[0]) if replay.windows.ndim > 2 else "value"
    ax.set(xlabel="samples after the last input", ylabel=f"{name} (sensor units)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=5, fontsize=8)
    return ax


def plot_times(times, ax=None):
    """Microseconds a window in Python, on the bus and in the engine. times: {label: times.Times}. -> Axes."""
    ax = ax or plt.subplots(figsize=(7.5, 0.6 * len(times) + 1.6))[1]
    left = np.zeros(len(times))
    for part, name in PARTS.items():
        width = np.array([t.per_window()[part] for t in times.values()])
        ax.barh(list(times), width, left=left, color=COLOURS[part], label=name)
        left += width
    run = next(iter(times.values()))
    what = "simulated; Python: this computer" if run.simulated else "on the board"
    ax.set_xlabel(f"microseconds a window (at {run.clock_mhz:g} MHz, {what})")
    ax.invert_yaxis()
    ax.legend(ncol=3, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def save(ax, name, columns, replay, engine):
    """Write FIGURES/name.svg, .png and .csv ({column: values}); the data and what ran stand on the figure. -> the
    figure."""
    figure = ax.figure
    _entitle(figure, replay, engine)
    paths.FIGURES.mkdir(parents=True, exist_ok=True)
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        figure.savefig(paths.FIGURES / (name + suffix), metadata=metadata)
    _write(paths.FIGURES / f"{name}.csv", columns)
    return figure


def _entitle(figure, replay, engine):
    """The data and what ran, verbatim: a $ in a column's name begins no mathematics."""
    title = f"{replay.title}; {engine.note}"
    figure.suptitle(title, x=0.99, ha="right", fontsize=9, color="0.35", parse_math=False)


def table(name, columns):
    """Write TABLES/name.csv from {column: values}. -> its text in columns, to be printed."""
    paths.TABLES.mkdir(parents=True, exist_ok=True)
    _write(paths.TABLES / f"{name}.csv", columns)
    rows = [list(columns), *([str(v) for v in row] for row in zip(*columns.values()))]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(row, widths)) for row in rows)


def _write(path, columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))


def plot_labels(replay, at, told, ax=None, channel=None):
    """A channel of window number `at`, in sensor units, and above it, sample by sample, the true label and what was
    told: {window: number of the label}. -> Axes. channel: see Replay."""
    ax = ax or plt.subplots(figsize=(7.5, 4))[1]
    past, step = replay.past(channel)[at], replay.step(channel)
    ax.plot(np.arange(len(past)) - len(past) + 1, past * step, color="black", lw=1)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.3 * (high - low))
    windows = np.arange(max(0, at - len(past) + 1), at + 1)
    rows = {"true": replay.truth[windows], "told": np.array([told.get(window, -1) for window in windows])}
    for height, (row, labels) in zip((0.93, 0.86), rows.items(), strict=True):
        ax.text(0.005, height, row, transform=ax.transAxes, va="center", fontsize=8)
        for i in range(len(replay.labels)):
            x = windows[labels == i] - at
            ax.plot(x, np.full(len(x), height), "s", ms=4, color=f"C{i}", transform=ax.get_xaxis_transform())
    handles = [plt.Line2D([], [], marker="s", ls="", color=f"C{i}", label=name) for i, name in enumerate(replay.labels)]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncol=5, fontsize=8)
    ax.set(xlabel="samples up to the last input", ylabel=f"{channel or replay.channels[0]} (sensor units)")
    return ax


class Live:
    """Plays the test windows through the overlay, a window a step; the reader starts and stops it, and picks the bits
    and, of several, the channel that is drawn while it runs. errors: {channel: {label: one a window}}"""

    def __init__(self, engine, replay, pause=0.05):
        """pause: seconds between two steps."""
        self.engine, self.replay, self.pause = engine, replay, pause
        self.at, self.task, self.image, self.channel = -1, None, None, replay.channels[0]
        self.errors = {channel: {label: [] for label in replay.models} for channel in replay.channels}
        self.told = {label: {} for label in replay.models}
        self.figure, self.axes = plt.subplots(figsize=(7.5, 4))
        plt.close(self.figure)  # drawn by `picture`, not once more by the notebook
        self.label = next(iter(replay.models))
        self.step()

    def show(self):
        """The panel; a still figure where there is no ipywidgets."""
        if ipywidgets is None:
            return self.figure
        self.image = ipywidgets.Image(value=self.picture(), format="png")
        self.button = ipywidgets.ToggleButton(description="play", icon="play")
        self.widths = ipywidgets.ToggleButtons(options=list(self.replay.models))
        self.button.observe(self._pressed, "value")
        self.widths.observe(lambda change: self.choose(change["new"]), "value")
        self.message = ipywidgets.Label()
        controls = [self.button, self.widths]
        if len(self.replay.channels) > 1:
            self.channels = ipywidgets.Dropdown(options=list(self.replay.channels), description="channel")
            self.channels.observe(lambda change: self.view(change["new"]), "value")
            controls.append(self.channels)
        return ipywidgets.VBox([ipywidgets.HBox(controls), self.image, self.message])

    def choose(self, label):
        """Go on with the model of this width: it is loaded before the next window."""
        self.label = label

    def view(self, channel):
        """Draw this channel from now on; all are forecast as before."""
        self.channel = channel
        self._draw()
        if self.image is not None:
            self.image.value = self.picture()

    def step(self):
        """The next window through the overlay, and the new picture's curves. -> its int16 forecast, or scores."""
        self.at = (self.at + 1) % len(self.replay.windows)
        model = self.replay.models[self.label]
        if self.engine.model is not model:
            self.engine.load(model)
        forecasts = self.engine.run(self.replay.windows[self.at : self.at + 1])
        for channel, errors in self.errors.items():
            errors[self.label].append(self._wrong(forecasts, channel))
        self.drawn = {self.label: forecasts[0]}
        self._draw()
        return forecasts[0]

    def _wrong(self, forecasts, channel):
        """Mean error of the forecast, in sensor units; of a classifier whether it told another label than the true
        one."""
        if not self.replay.labels:
            return mean_error(forecasts, self.replay, channel, self.at)
        told = self.told[self.label][self.at] = int(forecasts[0].argmax())
        return float(told != self.replay.truth[self.at])

    def _draw(self):
        self.axes.clear()
        if self.replay.labels:
            what = "share told wrongly"
            plot_labels(self.replay, self.at, self.told[self.label], self.axes, self.channel)
        else:
            what = "mean error"
            plot_forecast(self.replay, self.at, self.drawn, self.axes, self.channel)
        errors = self.errors[self.channel].items()
        seen = ", ".join(f"{label} {np.mean(e):.3g} ({len(e)})" for label, e in errors if e)
        self.axes.set_xlabel(f"{self.axes.get_xlabel()}\n{what} so far (windows): {seen}")
        _entitle(self.figure, self.replay, self.engine)

    def picture(self):
        """The figure as PNG."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()

    def _pressed(self, change):
        if change["new"]:
            self.task = asyncio.get_running_loop().create_task(self._play())

    async def _play(self):
        """Until the button is released; between two steps the notebook handles what the reader does."""
        try:
            while self.button.value:
                self.step()
                self.image.value = self.picture()
                await asyncio.sleep(self.pause)
        except Exception as error:  # nobody awaits this task: what went wrong has to stand in the panel
            self.message.value = f"{type(error).__name__}: {error}"
        finally:
            self.button.value = False
