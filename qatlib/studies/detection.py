"""Notebook 14: faults found, by a network that knows what is sound."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from qatlib.data import sources, watched
from qatlib.float_model.fault_baselines import BASELINES
from qatlib.runs import detectors
from qatlib.runs.detectors import MARGIN, Judged
from qatlib.studies import classification, decisions
from qatlib.studies.style import PALETTE, verbatim

WIDTHS = {"float": None, "W8A8": (8, 8), "W6A6": (6, 6), "W4A4": (4, 4), "W3A3": (3, 3), "W2A4": (2, 4), "W2A2": (2, 2)}
QUICK_WIDTHS = ("float", "W8A8", "W4A4")
SEEDED = ("float", "W4A4", "W2A4")  # by every seed; the others by the first
FACTORS = (0.8, 1.0, 1.25, MARGIN, 2.0)
SCORED = ("z-scores", "principal components, T² and Q")
CHOOSING = 3  # every third file chooses for all


def own(experiment, task):
    """The Watched of a notebook: a user's CSV where the task is to detect, else the weather; with faults of our own
    generator in its test rows."""
    mine = task == "detect" and experiment.data != "auto"
    data = watched.of_series(experiment.series) if mine else watched.weather()
    return data.with_faults("test", seed=0)


def skab():
    """The files of the benchmark, or None where they are not to be had, which is printed."""
    try:
        return watched.skab()
    except sources.Unavailable as reason:
        print(f"left out, SKAB: {reason}")
        return None


class Study:
    """What validation chooses for Watched that share one choice, and how well it finds the faults of their test rows,
    all together: `table`, a row a width and seed; `baselines`, a row each."""

    def __init__(self, sets, experiment, *, seeds=None):
        self.sets, self.seeds = sets, tuple(seeds or experiment.seeds)
        networks = detectors.NETWORKS if experiment.full else detectors.NETWORKS[1::5]
        self.choice, self.tried = detectors.choose(sets[::CHOOSING], networks)
        widths = WIDTHS if experiment.full else QUICK_WIDTHS
        cells = [(width, seed) for width in widths for seed in (self.seeds if width in SEEDED else self.seeds[:1])]
        detectors.prepare(
            [(self.choice.network, data, WIDTHS[width] or (8, 8), seed) for width, seed in cells for data in sets]
        )
        self.judged = {
            cell: [Judged(self.choice.network, data, WIDTHS[cell[0]], cell[1]) for data in sets] for cell in cells
        }
        self.table = pd.DataFrame([self._row(*cell) for cell in cells])
        self.baselines = pd.DataFrame([self._baseline(name) for name in BASELINES])

    def _row(self, width, seed):
        judged, smoothing = self.judged[width, seed], self.choice.smoothing
        found = [one.on_test(smoothing) for one in judged]
        truth = np.concatenate([one.truth for one in judged])
        parts = zip(*(one.on_validation(smoothing) for one in judged), strict=True)
        model = judged[0].model
        return {
            "method": "float" if width == "float" else f"qat-{detectors.SCHEME}", "width": width, "seed": seed,
            "model": model.name, "family": self.choice.network.family,
            "f1_validation": detectors.f1(*map(np.concatenate, parts)),
            **detectors.measures(*(np.concatenate(part) for part in zip(*found, strict=True)), truth),
            "size_bytes": judged[0].size_bytes, "equal_outputs": min(one.equal_outputs for one in judged),
        }  # fmt: skip

    def _baseline(self, name):
        found = [BASELINES[name](data, MARGIN) for data in self.sets]
        scores, flags = (np.concatenate(part) for part in zip(*found, strict=True))
        truth = np.concatenate([data.faulty[data.bounds[1] :] for data in self.sets])
        return {"method": name, **detectors.measures(scores, flags, truth)}

    def by_factor(self):
        """F1 of the test rows where a threshold is another multiple of the highest sound score, of the first seed at
        W4A4 and of baselines; what is chosen by nobody."""
        truth = np.concatenate([one.truth for one in self.judged["W4A4", self.seeds[0]]])
        scores = {"W4A4": [one.on_test(self.choice.smoothing)[0] for one in self.judged["W4A4", self.seeds[0]]]}
        scores |= {name: [BASELINES[name](data, MARGIN)[0] for data in self.sets] for name in SCORED}
        found = {
            name: [detectors.f1(np.concatenate(parts) > factor / MARGIN, truth) for factor in FACTORS]
            for name, parts in scores.items()
        }
        return pd.DataFrame(found, index=pd.Index(FACTORS, name="factor"))

    def first(self, width="W4A4"):
        """The first Watched as judged at a width by the first seed."""
        return self.judged[width, self.seeds[0]][0]

    def detector(self, width="W4A4"):
        """The first Watched's detector as one IntegerModel."""
        return self.first(width).detector(self.choice.smoothing)

    def rows(self, dataset, protocol):
        """As rows of tasks.csv."""
        widths = {name: pair or (np.nan, np.nan) for name, pair in WIDTHS.items()}
        table = pd.concat([self.table, self.baselines])
        bits = [widths.get(width, (np.nan, np.nan)) for width in table["width"]]
        table = table.assign(
            weight_bits=[w for w, _ in bits], activation_bits=[a for _, a in bits], task="detect", dataset=dataset,
            source="measured",
        )  # fmt: skip
        at_20 = table.assign(protocol=f"{protocol}-far20", far=0.2, mar=table["mar_at_far20"], f1=np.nan)
        return pd.concat([table.assign(protocol=protocol), at_20])


def adjusted(flags, truth):
    """Flags after point adjustment: a fault of which one row is flagged counts as flagged whole."""
    starts = np.cumsum(truth & ~np.r_[False, truth[:-1]]) * truth
    hit = np.unique(starts[flags & truth])
    return flags | (truth & np.isin(starts, hit))


def in_brief(experiment):
    """What the decision maker's page says of notebooks 13 and 14, of the data that ship with the project: F1, one for
    every test; bytes."""
    room = classification.Study({"": classification.own(experiment, "forecast")}, experiment)
    columns, means = [f"f1_{test}" for test in room.tests], room.means().set_index("what")
    trained = means.loc[[f"qat-{detectors.SCHEME}"]].set_index("width").loc["W4A4"]
    rival = means.loc[list(classification.BASELINES), "f1_validation"].idxmax()
    faults = Study([own(experiment, "forecast")], experiment)
    by_width, guard = faults.table.groupby("width")[["f1", "size_bytes"]].mean(), faults.baselines.set_index("method")
    return {
        "room": trained[columns].tolist(), "room_size": trained["size_bytes"],
        "room_float": means.loc["float", columns].tolist(),
        "room_rival": rival, "room_baseline": means.loc[rival, columns].tolist(),
        "faults": [by_width.loc["W4A4", "f1"]], "faults_size": by_width.loc["W4A4", "size_bytes"],
        "faults_float": [by_width.loc["float", "f1"]], "faults_guard": [guard.loc["guard", "f1"]],
    }  # fmt: skip


def plot_scores(judged, smoothing, axes=None):
    """The channels of a Watched's test rows over time, standardised, and under them the score in thresholds; faults are
    shaded."""
    data = judged.data
    scores, flags = judged.on_test(smoothing)
    rows = np.arange(data.bounds[1], len(data.values))
    if axes is None:
        axes = plt.subplots(2, 1, figsize=(9, 5.2), sharex=True, height_ratios=(2, 1), layout="constrained")[1]
    for i, name in enumerate(data.names):
        values = data.standardise(data.values)[rows, i]
        axes[0].plot(rows, values, lw=0.8, color=PALETTE[i % len(PALETTE)], label=verbatim(name))
    axes[1].plot(rows, scores, lw=0.9, color="0.25", label="score")
    axes[1].axhline(1, color=PALETTE[3], lw=1, dashes=(5, 2), label="threshold")
    axes[1].plot(rows[flags], scores[flags], ".", ms=3, color=PALETTE[3], label="flagged")
    edges = np.flatnonzero(np.diff(np.r_[False, judged.truth, False].astype(int)))
    for k, (a, b) in enumerate(edges.reshape(-1, 2)):
        for ax in axes:
            label = "faulty" if k == 0 and ax is axes[0] else None
            ax.axvspan(rows[a], rows[b - 1], color="0.85", lw=0, zorder=0, label=label)
    axes[0].set_ylabel("channels (standardised)")
    scale = "symlog" if scores.max() > 10 else "linear"
    axes[1].set(xlabel="row", ylabel="score (thresholds)", yscale=scale, ylim=(0, None))
    axes[0].legend(ncols=4, fontsize=8)
    axes[1].legend(ncols=4, fontsize=8)
    return axes[0]


def scores_frame(judged, smoothing):
    """The numbers of `plot_scores`: row, channels in sensor units, faulty, score, flagged."""
    data = judged.data
    scores, flags = judged.on_test(smoothing)
    rows = np.arange(data.bounds[1], len(data.values))
    frame = pd.DataFrame(data.values[rows], columns=list(data.names))
    return frame.assign(row=rows, faulty=judged.truth, score=scores, flagged=flags)


def tasks(experiment, task, study, benchmark):
    """tasks.csv: the runs of this notebook; unless it is about a user's faults alone, those of notebook 13 too, which
    are kept."""
    parts = [study.rows(study.sets[0].name, "own")] + ([benchmark.rows("skab", "leaderboard")] if benchmark else [])
    if task != "detect":
        room = classification.Study({"": classification.own(experiment, task)}, experiment)
        parts += classification.tasks(experiment, room, classification.others(experiment))
    return pd.concat(parts).reindex(columns=decisions.COLUMNS)
