"""Quantisation-aware training: a float model's primitives swapped for their quantised twins, and the export to
integers.

`quantize_model(float_model, config)` gives a model that trains with every number already rounded as the integers will
be: weights, biases, activations, multipliers (m * 2**-n), softmax table. `export` runs it once and writes down what it
did, so nothing can change on the way.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from qatlib.float_model import layers, train
from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import Channel
from qatlib.quantised_model import quant_layers, quant_moves
from qatlib.quantised_model.graph import Graph, integers
from qatlib.quantised_model.quantisers import ActivationQuantizer, split_multiplier

TWINS = {
    layers.Source: quant_layers.QuantSource,
    layers.Linear: quant_layers.QuantLinear,
    layers.Operand: quant_layers.QuantOperand,
    layers.AddPosition: quant_layers.QuantAddPosition,
    layers.Add: quant_layers.QuantAddTwo,
    layers.AddNorm: quant_layers.QuantAddNorm,
    layers.Scores: quant_layers.QuantScores,
    layers.Softmax: quant_layers.QuantSoftmax,
    layers.Context: quant_layers.QuantContext,
    layers.Pool: quant_layers.QuantPool,
    layers.Reshape: quant_moves.QuantRearrange,
    layers.Placeholders: quant_moves.QuantRearrange,
    layers.LastTokens: quant_moves.QuantRearrange,
    layers.Output: quant_moves.QuantOutput,
}


def quantize_model(model, config, *, exceptions=None):
    """A quantised copy of a trained `Forecaster`. Its steps are still to be set: see `ptq.calibrate`.

    exceptions: {path of a primitive: its own QuantConfig}, for mixed widths.
    """
    unknown = set(exceptions or {}) - {name for name, _ in model.named_modules()}
    if unknown:
        raise ValueError(f"exceptions for {', '.join(sorted(unknown))}: the model has no such primitive")
    twin = copy.deepcopy(model)
    _swap(twin, config, exceptions or {}, "")
    return twin


def _swap(module, config, exceptions, prefix):
    for name, child in module.named_children():
        path = prefix + name
        # learning the float model's own forecasts needs no dropout: chosen by validation error
        if isinstance(child, layers.Dropout):
            setattr(module, name, nn.Identity())
        elif type(child) in TWINS:
            new = TWINS[type(child)].from_float(child, exceptions.get(path, config))
            new.path = path
            setattr(module, name, new)
        else:
            _swap(child, config, exceptions, path + ".")


@dataclass(frozen=True)
class QATConfig(train.TrainConfig):
    """A recipe of QAT. distil: the share of a teacher's forecast in the targets. techniques: each `technique(model,
    origin)` gives a hook, where origin is the float model; frozen dataclasses, since a run is known by their text."""

    distil: float = 0.0
    techniques: tuple = ()


class FreezeChoices(train.Hook):
    """Ends the adaptive scheme's choosing for the last fifth of training."""

    def __init__(self, model):
        self.quantizers = [module for module in model.modules() if isinstance(module, ActivationQuantizer)]

    def before(self, taken, steps):
        if taken == int(0.8 * steps):
            for quantizer in self.quantizers:
                quantizer.freeze_choice()


@torch.no_grad()
def output_codes(model, differences, *, batch=512):
    """The quantised model's output codes, zero point taken out, in float64 with dropout off: int32, of the forecasts'
    shape.

    differences: whole numbers (windows, context[, channel]), counts minus anchor.
    """
    exact = copy.deepcopy(model).double().eval()
    caught, unfolded = [], exact.output.inner.unfolded
    exact.head.register_forward_hook(lambda module, inputs, codes: caught.append(unfolded(codes.values.flatten(1))))
    for part in torch.as_tensor(differences, dtype=torch.float64).split(batch):
        exact(part)
    return torch.cat(caught).numpy().astype(np.int32)


@torch.no_grad()
def program(model):
    """-> the Graph of a quantised model's operations up to the head, and the head's codes."""
    exact = copy.deepcopy(model).double().eval()
    graph = exact.source.graph = Graph()
    head = []
    exact.head.register_forward_hook(lambda module, inputs, codes: head.append(codes))
    channels = model.config.channels
    exact(torch.zeros(1, model.config.context, *[channels] * (channels > 1), dtype=torch.float64))
    return graph, head


@torch.no_grad()
def export(model):
    """Quantised model -> IntegerModel: the integer program that its evaluation carries out.

    Raises ValueError where an accumulator could reach 2**24.
    """
    graph, head = program(model)
    config, sensor = model.config, model.sensor
    unit = torch.as_tensor(sensor.part(config.forecast).unit, dtype=torch.float64)
    # a classifier's scores are codes as they are
    m, n = split_multiplier(head[0].step / unit if config.task == "forecast" else torch.ones(1, dtype=torch.float64))
    graph.record("output", "output", head, head[0], None, {"m": integers(m, np.uint16), "n": integers(n, np.uint8)})
    del graph.tensors["output"]
    offsets = zip(config.subtract_last, np.atleast_1d(sensor.offset), strict=True)
    anchors = [None if last else int(offset) for last, offset in offsets]
    resolutions = np.atleast_1d(sensor.resolution).tolist()
    return IntegerModel(
        name=config.name,
        context=config.context,
        horizon=config.horizon,
        channels=tuple(Channel(*facts) for facts in zip(sensor.names, resolutions, anchors, strict=True)),
        operations=tuple(graph.operations),
        tensors=graph.tensors,
        arrays=graph.arrays,
        mode=config.mode,
        task=config.task,
        labels=config.labels,
        targets=config.forecast,
    )
