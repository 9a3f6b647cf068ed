"""Which small Transformer tells the labels of a sensor best, and which convolutional network: chosen by the loss on
validation, one thing after the other."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from qatlib.float_model.config import ModelConfig, rival_config
from qatlib.float_model.label_baselines import FEATURES
from qatlib.float_model.train import TrainConfig
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import scale_out
from qatlib.runs.cached import Run, artifact_names

BATCH = 64
RATES = {200: 1e-3, 800: 5e-3}  # of float training: learning rate, by the steps of the optimiser
QAT_STEPS, QAT_RATE = 400, 3e-3
PATCH = 10  # samples of a token
VALUES = {  # of a Choice, by name
    "family": ("point", "patch"),  # the mean of all tokens, or all of them
    "anchors": (),  # each channel's other one, all and none
    "steps": tuple(RATES),
    "context": (60, 120, 240),
    "d_model": (8, 16),
}
QUICK = ("family", "anchors")  # tried in the quick profile
RIVAL = "cnn"  # the family that a Transformer has to beat: chosen likewise, but for what it has not
SWEEPS = 3
SCHEME = "asymmetric"


@dataclass(frozen=True)
class Choice:
    """What is chosen. anchors: for each channel whether its last sample is subtracted; steps: of float training."""

    family: str
    context: int
    d_model: int
    anchors: tuple[bool, ...]
    steps: int

    def model(self, data):
        facts = {
            "channels": len(data.names), "mode": "mixed", "targets": (0,), "labels": artifact_names(data.classes),
            "anchors": self.anchors,
        }  # fmt: skip
        if self.family == RIVAL:
            return rival_config(RIVAL, self.context, len(data.classes), **facts)
        return ModelConfig(self.family, self.context, len(data.classes), PATCH, self.d_model, dropout=0.1, **facts)

    def others(self, name):
        """Choices that differ in this alone."""
        values = VALUES[name]
        if name == "anchors":
            channels = range(len(self.anchors))
            values = [tuple(a != (i == j) for j, a in enumerate(self.anchors)) for i in channels]
            values += [tuple(whole for _ in channels) for whole in (False, True)]
        found = dict.fromkeys(replace(self, **{name: value}) for value in values)
        return [choice for choice in found if choice != self]


def choose(sets, *, full, family="patch"):
    """The Choice with the lowest loss on validation, mean over these Labelled sets, in float by the first seed.

    Everything in turn takes the value that is best with all others as they are, until nothing changes. family: to begin
    with; RIVAL stays what it is.
    -> (Choice, table of all that was tried)"""
    names = [name for name in (VALUES if full else QUICK) if family != RIVAL or name not in ("family", "d_model")]
    now = Choice(family, VALUES["context"][0], VALUES["d_model"][0], (False,) * len(sets[0].names), min(RATES))
    tried = _losses(sets, [now])
    for _ in range(SWEEPS if full else 1):
        before = now
        for name in names:
            others = now.others(name)
            if new := [choice for choice in others if choice not in tried]:
                tried |= _losses(sets, new)
            now = min([now, *others], key=tried.get)  # of equal ones the one that was there
        if now == before:
            break
    return now, pd.DataFrame([asdict(choice) | {"loss_validation": loss} for choice, loss in tried.items()])


def _losses(sets, choices):
    """{Choice: loss on validation, mean over sets}; infinite where no window fits."""
    found = []
    for data in sets:
        longest = min(max(map(len, part)) for part in data.parts.values())
        fitting = [choice for choice in choices if choice.context <= longest]
        table = scale_out.collect([float_run(choice, data, 0) for choice in fitting], data)
        found.append(dict(zip(fitting, table["loss_validation"], strict=True) if fitting else ()))
    return {choice: float(np.mean([loss.get(choice, np.inf) for loss in found])) for choice in choices}


def float_run(choice, data, seed):
    model = choice.model(data)
    return Run(model, "float", seed, TrainConfig(_epochs(model, data, choice.steps), BATCH, RATES[choice.steps]))


def _epochs(model, data, steps):
    return max(1, round(steps * BATCH / len(data.windows("train", model.context))))


def runs(choice, rival, data, *, widths, seeds):
    """Baselines, float models, and PTQ and QAT at these widths (weights, activations): QAT at W4A4 and W2A4 by every
    seed, the others by the first. rival: Choice of the convolutional network."""
    model = choice.model(data)
    found = [Run(model, method) for method in ("majority", *FEATURES)]
    found += [float_run(one, data, seed) for one in (rival, choice) for seed in seeds]
    qat_recipe = QATConfig(_epochs(model, data, QAT_STEPS), BATCH, learning_rate=QAT_RATE, distil=1.0)
    for pair in widths:
        bits = QuantConfig(*pair, scheme=SCHEME)
        found.append(replace(float_run(choice, data, seeds[0]), method="ptq-mse", quantization=bits))
        for seed in seeds if pair in ((4, 4), (2, 4)) else seeds[:1]:
            found.append(
                replace(
                    float_run(choice, data, seed), method=f"qat-{SCHEME}", quantization=bits, qat_recipe=qat_recipe,
                    teachers=tuple(seeds),
                )
            )  # fmt: skip
    return found
