"""Notebook 13: labels in place of forecasts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from qatlib.data import labelled_sets, sources
from qatlib.float_model.label_baselines import FEATURES
from qatlib.runs import cached, classifiers, scale_out
from qatlib.runs.comparison import with_labels
from qatlib.studies.style import verbatim

WIDTHS = ((8, 8), (6, 6), (4, 4), (3, 3), (2, 4), (2, 2))
QUICK_WIDTHS = ((8, 8), (4, 4))
FOUR = (4, 4)
RUNNERS = tuple(labelled_sets.RUNNERS)
JUDGES = RUNNERS[:3]  # whose validation chooses for all
CONVOLUTIONAL = "small convolutional network, float"
BASELINES = ("majority", *FEATURES, CONVOLUTIONAL)
STRIDE = 3  # rows from window to window of a runner


def own(experiment, task):
    """The labelled data of a notebook: a user's CSV where the task is to classify, else the occupancy of an office."""
    if task != "classify":
        return labelled_sets.load()
    return labelled_sets.load(experiment.data, experiment.target, experiment.inputs, clean=experiment.clean)


class Study:
    """What validation chooses for Labelled sets that share one choice, and its runs as a table.

    sets: {subject: Labelled}; judges: the subjects that choose; like: another study, whose choices are taken over."""

    def __init__(self, sets, experiment, *, seeds=None, widths=None, judges=None, like=None):
        self.sets, self.seeds = sets, tuple(seeds or experiment.seeds)
        if like is None:
            judging = [sets[subject] for subject in judges or sets]
            self.choice, self.tried = classifiers.choose(judging, full=experiment.full)
            self.rival, _ = classifiers.choose(judging, full=experiment.full, family=classifiers.RIVAL)
        else:
            self.choice, self.rival, self.tried = like.choice, like.rival, like.tried
        self.runs = {
            s: classifiers.runs(
                self.choice, self.rival, data, seeds=self.seeds,
                widths=widths or (WIDTHS if experiment.full else QUICK_WIDTHS),
            )
            for s, data in sets.items()
        }  # fmt: skip
        self.table = pd.concat([self._table(subject) for subject in sets], ignore_index=True)

    def _table(self, subject):
        runs, data = self.runs[subject], self.sets[subject]
        table = with_labels(scale_out.collect(runs, data, name=data.name))
        families = [run.model.family for run in runs]
        names = [CONVOLUTIONAL if f == classifiers.RIVAL else m for f, m in zip(families, table["method"], strict=True)]
        return table.assign(subject=subject, family=families, what=names)

    @property
    def tests(self):
        """Names of what is tested by."""
        return [split for split in next(iter(self.sets.values())).parts if split not in ("train", "validation")]

    def means(self):
        """Mean over subjects and seeds: method, width, F1 on validation and on every test set, bytes, equal outputs."""
        columns = [f"f1_{split}" for split in ("validation", *self.tests)] + ["size_bytes", "equal_outputs"]
        return self.table.groupby(["what", "width"], sort=False)[columns].mean().reset_index()

    def first(self, width=FOUR):
        """The first subject's run at a width, by the first seed."""
        subject = next(iter(self.sets))
        bits = [run for run in self.runs[subject] if run.qat_recipe and run.seed == self.seeds[0]]
        return next(r for r in bits if (r.quantization.weight_bits, r.quantization.activation_bits) == width)

    def rows(self, dataset, protocol):
        """The runs as rows of tasks.csv, one for every test set. protocol: {test set: name}"""
        parts, network = [], self.table["weight_bits"].notna() | (self.table["method"] == "float")
        table = self.table.assign(**{name: self.table[name].where(network) for name in ("model", "family", "seed")})
        for split in self.tests:
            named = table.rename(columns={f"f1_{split}": "f1", f"accuracy_{split}": "accuracy"})
            parts.append(named.assign(task="classify", dataset=dataset, protocol=protocol[split], source="measured"))
        return pd.concat(parts)


def runners(experiment, alone=True):
    """{runner: Labelled} of StrikeWatch, or None where the files are not to be had, which is printed."""
    try:
        return {r: labelled_sets.strikewatch(r, alone=alone, stride=STRIDE) for r in RUNNERS}
    except sources.Unavailable as reason:
        print(f"left out, StrikeWatch: {reason}")
        return None


def others(experiment):
    """{data: its Study} in the full profile: the office with its light sensor, StrikeWatch by its published protocol,
    and with one runner left out; the last two take what validation chose for three runners."""
    if not experiment.full:
        return {}
    found = {"occupancy": Study({"": labelled_sets.occupancy(light=True)}, experiment, widths=(FOUR,))}
    if alone := runners(experiment):
        own = Study(alone, experiment, seeds=range(3), widths=(FOUR,), judges=JUDGES)
        out = Study(runners(experiment, alone=False), experiment, seeds=range(1), widths=(FOUR,), like=own)
        found |= {"strikewatch, per runner": own, "strikewatch, one left out": out}
    return found


def tasks(experiment, study, others):
    """The runs as rows of tasks.csv: of the notebook's own data, and of those that `others` gives."""
    data = study.sets[""]
    protocol = "no-light-{}" if data.name == "occupancy, no light" else "{}"
    parts = [study.rows(data.name.split(",")[0], {t: protocol.format(t) for t in study.tests})]
    for name, other in others.items():
        data, _, protocol = name.partition(", ")
        wanted = {"": "light-{}", "per runner": "per-runner", "one left out": "leave-one-out"}[protocol]
        parts.append(other.rows(data, {t: wanted.format(t) for t in other.tests}))
    return parts


def confusions(study, split):
    """Of the W4A4 integers by the first seed: true label, told label, windows, share of the true label's."""
    subject, run = next(iter(study.sets)), study.first()
    data = study.sets[subject]
    windows = data.windows(split, run.model.context)
    told = cached.integer_model(run, data).classify(windows.counts)[0]
    counts = confusion_matrix(windows.labels, told, labels=range(len(data.classes)))
    rows = [
        (split, data.classes[i], data.classes[j], counts[i, j], counts[i, j] / max(1, counts[i].sum()))
        for i in range(len(counts))
        for j in range(len(counts))
    ]
    return pd.DataFrame(rows, columns=["test", "label", "told", "windows", "share"])


def plot_confusions(frame, axes=None):
    """frame: of `confusions`, of one or more test sets, a panel each."""
    names = list(dict.fromkeys(frame["test"]))
    if axes is None:
        axes = plt.subplots(1, len(names), figsize=(1.5 + 3.6 * len(names), 3.8), squeeze=False, layout="constrained")[
            1
        ][0]
    for ax, name in zip(np.ravel(axes), names, strict=True):
        part = frame[frame["test"] == name]
        labels = list(dict.fromkeys(part["label"]))
        share = part["share"].to_numpy().reshape(len(labels), -1)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        if len(labels) <= 12:
            for row in part.itertuples():
                i, j = labels.index(row.label), labels.index(row.told)
                text = f"{row.windows:,}\n{row.share:.0%}"
                ax.text(j, i, text, ha="center", va="center", color="white" if row.share > 0.6 else "black")
        shown = list(map(verbatim, labels))
        ax.set_xticks(range(len(labels)), shown, rotation=0 if len(labels) < 4 else 90)
        ax.set_yticks(range(len(labels)), shown)
        ax.set(xlabel="told", title=name)
        ax.grid(visible=False)
    np.ravel(axes)[0].set_ylabel("true")
    return np.ravel(axes)[0]
