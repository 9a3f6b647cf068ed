"""Models trained for a few steps, and the comparison of their evaluation with their integers."""

import numpy as np
import torch

from qatlib.float_model import train
from qatlib.quantised_model import fused, ptq, qat


def few_steps(model, data, *, epochs=1, learning_rate=1e-2, batch=64):
    fused.fit(model, model, *data, qat.QATConfig(epochs, batch, learning_rate, averaging=0.5), seed=1)
    return model


def trained(model, config, batches, **more):
    """Calibrated and trained for real steps that move weights, steps and zero points; the last weights are kept."""
    training = batches(model.config)[0]
    twin = ptq.quantise(model, config, training.inputs[::8], **more)
    before = {name: p.detach().clone() for name, p in twin.named_parameters()}
    optimiser = torch.optim.Adam(twin.parameters(), lr=3e-3)
    for rows in torch.arange(240).split(60):
        train.step(twin.train(), optimiser, training.inputs[rows], training.targets[rows])
    moved = {name.rpartition(".")[2] for name, p in twin.named_parameters() if not torch.equal(p, before[name])}
    there = {name.rpartition(".")[2] for name in before} & {"weight", "bias", "position", "gain", "offset"}
    assert there <= moved and moved & {"log_step", "log_step_asymmetric"}
    assert config.scheme != "asymmetric" or "zero" in moved
    return twin.eval()


def assert_equal(codes, *, coarse=False):
    """coarse: so few bits that a model of random weights may give one code everywhere."""
    evaluated, integers = codes
    np.testing.assert_array_equal(evaluated, integers)
    assert coarse or len(np.unique(evaluated)) > 1
