"""Detectors of faults: which network and smoothing, chosen on rows that are free of faults but for those that our own
generator puts in. The threshold comes from sound rows alone that training has not seen."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from qatlib.float_model import train
from qatlib.float_model.config import ModelConfig
from qatlib.float_model.train import TrainConfig
from qatlib.integer_model import detection, kernels
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached, scale_out, storage
from qatlib.runs.cached import Run

BATCH = 64
FLOAT, QAT = TrainConfig(epochs=30, batch=BATCH), QATConfig(epochs=15, batch=BATCH, learning_rate=3e-3, distil=1.0)
SCHEME = "asymmetric"
FOUR = (4, 4)
SMOOTHINGS = (0, 2, 3, 4)
MARGIN = 1.5  # times the highest score of sound rows: few of them do not show all that is sound. See notebook 14
DISTURBED = 6  # times that faults are put into the validation rows, each time others


@dataclass(frozen=True)
class Network:
    """A network, and what its windows are judged by: their own last rows, or the next row. width: numbers of a linear
    map, channels of an encoder."""

    family: str
    context: int
    width: int
    ahead: bool = False

    def model(self, data):
        """What it reads is less the training mean."""
        channels = len(data.names)
        shape = {"channels": channels, "mode": "mixed", "targets": tuple(range(channels))}
        own = {"d_model": self.width, "patch": 2}
        if self.family == "linear":
            # of a window's own rows at most half of what it holds: a map of all of it rebuilds any fault as well
            most = channels if self.ahead else max(1, self.context * channels // 2)
            own = {"rank": min(self.width, most), "reach": self.context, "patch": self.context}
        horizon = 1 if self.ahead else self.context
        anchors = (False,) * channels
        return ModelConfig(self.family, self.context, horizon, dropout=0.0, anchors=anchors, **own, **shape)

    def run(self, data, width, seed):
        """A QAT run at a width (weights, activations); in float where it is None."""
        recipe = replace(FLOAT, epochs=0) if self.family == "linear" else FLOAT
        run = Run(self.model(data), "float", seed, recipe)
        if width is None:
            return run
        return replace(run, method=f"qat-{SCHEME}", quantization=QuantConfig(*width, scheme=SCHEME), qat_recipe=QAT)


NETWORKS = (
    *(Network("linear", context, rank) for context in (8, 16) for rank in (8, 24)),
    Network("linear", 16, 8, ahead=True),
    *(Network("patch", 8, width) for width in (8, 16)),
)


class Judged:
    """One network on one Watched: its raw scores of the sound validation rows, of the same with faults, of the test
    rows."""

    def __init__(self, network, data, width, seed):
        self.data = data = replace(data, ahead=network.ahead)
        run = network.run(data, width or (8, 8), seed)
        forward = None if width else float_forward(run, data)
        model = cached.integer_model(run, data)
        self.equal_outputs = storage.row(run, data)["equal_outputs"] if width else np.nan
        first = detection.length(model, ahead=network.ahead) - 1
        begin, end = data.span("validation")
        sound = data.counts[max(0, begin - first) : end]
        plain = detection.detector(model, sound, ahead=network.ahead, smoothing=0, forward=forward, threshold=0)
        self.model, self.forward = plain, forward or plain.forward
        as_float = storage.row(network.run(data, None, seed), data)["size_bytes"]
        self.size_bytes = plain.size_bytes if width else as_float
        self.sound = self._raw(sound)
        disturbed = [data.with_faults("validation", seed) for seed in range(DISTURBED)]
        self.disturbed = [self._raw(d.counts[max(0, begin - first) : end]) for d in disturbed]
        self.truths = [d.faulty[end - len(self.sound) : end] for d in disturbed]
        begin, end = data.span("test")
        self.test, self.truth = self._raw(data.counts[begin - first : end]), data.faulty[begin:end]

    def _raw(self, counts):
        return detection.raw_scores(self.model, counts, self.forward)

    def threshold(self, smoothing):
        return int(MARGIN * detection.smoothed(self.sound, smoothing).max())

    def on_validation(self, smoothing):
        """Flags and truth of the validation rows with faults put in."""
        limit = self.threshold(smoothing)
        flags = [detection.smoothed(raw, smoothing) > limit for raw in self.disturbed]
        return np.concatenate(flags), np.concatenate(self.truths)

    def on_test(self, smoothing):
        """Scores, in thresholds, and flags of the test rows."""
        scores, limit = detection.smoothed(self.test, smoothing), self.threshold(smoothing)
        return scores / max(1, limit), scores > limit

    def detector(self, smoothing):
        """The whole as one IntegerModel."""
        limit = self.threshold(smoothing)
        last = self.model.operations[-1]
        end = replace(last, attributes=last.attributes | {"smoothing": smoothing})
        return replace(self.model, threshold=limit, operations=(*self.model.operations[:-1], end))


def float_forward(run, data):
    """The float model behind a run as a function of int16 windows -> int16 forecasts."""
    network, sensor = cached.float_model(run, data), cached.sensor_of(data)

    def forward(windows):
        change = train.forecast(network, torch.from_numpy(windows - sensor.offset).float()).numpy()
        counts = kernels.round_half_up(change.astype(np.float64) / sensor.unit + sensor.offset)
        return np.clip(counts, kernels.COUNT_MIN, kernels.COUNT_MAX).astype(np.int16)

    return forward


@dataclass(frozen=True)
class Choice:
    """What to use, and its F1 on validation rows with faults put in."""

    network: Network
    smoothing: int
    f1_validation: float


def choose(sets, networks=NETWORKS):
    """The network and smoothing with the highest F1 on validation rows with faults put in, of all sets
    together, at W4A4 by the first seed. -> (Choice, all that were tried)"""
    prepare([(network, data, FOUR, 0) for network in networks for data in sets])
    rows = []
    for network in networks:
        judged = [Judged(network, data, FOUR, 0) for data in sets]
        for smoothing in SMOOTHINGS:
            parts = zip(*(one.on_validation(smoothing) for one in judged), strict=True)
            rows.append(Choice(network, smoothing, f1(*map(np.concatenate, parts))))
    return max(rows, key=lambda choice: choice.f1_validation), rows


def prepare(cells):
    """Compute the runs of (network, data, width, seed), on all cores."""
    by_data = {}
    for network, data, width, seed in cells:
        one = replace(data, ahead=network.ahead)
        by_data.setdefault((data.fingerprint, network.ahead), (one, []))[1].append(network.run(one, width, seed))
    for data, runs in by_data.values():
        scale_out.collect(runs, data)


def f1(flags, truth):
    """Of the faulty rows; 0 where there are neither flags nor faults."""
    return 2 * (flags & truth).sum() / max(1, flags.sum() + truth.sum())


def measures(scores, flags, truth):
    """f1, far and mar (false alarms of the sound rows, missed of the faulty ones), auc_pr (average precision),
    mar_at_far20 (read off the curve: no threshold is set by it), delay: rows from the first of a fault to its first
    flag, mean over faults that get one."""
    limit = np.quantile(scores[~truth], 0.8)
    return {
        "f1": f1(flags, truth),
        "far": (flags & ~truth).sum() / (~truth).sum(),
        "mar": (~flags & truth).sum() / truth.sum(),
        "auc_pr": average_precision_score(truth, scores),
        "mar_at_far20": (scores[truth] <= limit).mean(),
        "delay": _delay(flags, truth),
    }


def _delay(flags, truth):
    starts = np.flatnonzero(truth & ~np.r_[False, truth[:-1]])
    ends = np.flatnonzero(truth & ~np.r_[truth[1:], False]) + 1
    found = [np.flatnonzero(flags[a:b]) for a, b in zip(starts, ends, strict=True)]
    return float(np.mean([rows[0] for rows in found if len(rows)] or [np.nan]))
