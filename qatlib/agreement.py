"""What each rule of the integer arithmetic is worth: a trained model evaluated with one rule broken, against its own integers."""

from contextlib import ExitStack
from unittest import mock

import numpy as np
import pandas as pd
import torch

from qatlib import qat, quant_layers, quantize, runs


def _half_to_even(v, low, high):
    return torch.round(v).clamp(float(low), float(high))


def _truncate(v, low, high):
    return torch.floor(v).clamp(float(low), float(high))


def _real_softmax(scores, score_step, step, numerator, k, high):
    """The softmax without table and reciprocal, its result rounded to steps."""
    return torch.floor((scores * score_step).softmax(-1) / step + 0.5).clamp(max=high)


BROKEN = {
    "as trained": (),
    "real multipliers, not m / 2^n": ((quant_layers, "round_multiplier", lambda multiplier: multiplier),),
    "real softmax, no table": ((quant_layers, "softmax", _real_softmax),),
    "ties to even": ((quantize, "round_clamp", _half_to_even), (quant_layers, "round_clamp", _half_to_even)),
    "truncation, as a bare shift does": ((quantize, "round_clamp", _truncate), (quant_layers, "round_clamp", _truncate)),
}


def differences(run, dataset):
    """Steps between a run's evaluation and its integers, over all test outputs, each rule broken in turn: arithmetic, steps, share, mse."""
    _, _, test = runs.split_batches(run.model, dataset)
    windows = runs.splits(run.model, dataset)[2]
    model, exported = runs.quantised_model(run, dataset), runs.integer_model(run, dataset)
    truth = exported.output_codes(windows.counts) - exported.tensors["head"].zero_point
    step = float(model.head.quantizer.step().detach().double())
    frame = []
    for name, patches in BROKEN.items():
        with ExitStack() as stack:
            for patch in patches:
                stack.enter_context(mock.patch.object(*patch))
            codes = qat.output_codes(model, test.inputs)
        steps, counts = np.unique(np.abs(codes - truth), return_counts=True)
        mse = float(np.square(codes * step - test.targets.numpy()).mean())
        frame += [(name, s, n / codes.size, mse) for s, n in zip(steps, counts, strict=True)]
    return pd.DataFrame(frame, columns=["arithmetic", "steps", "share", "mse"])
