"""`make bench-peers`: the default model at 4 bits trained by this project, by Brevitas and by torchao, side by side, on
one thread.

Same float model, same data, same number of steps, same AdamW schedule; each quantised by its documented way. Brevitas
(https://xilinx.github.io/brevitas): quantised layers and activations in place of the float ones, residual stream and
edges at 8 bits as here, activation scales from statistics of the first epoch and learned from then on (its default
takes more steps than there are). torchao (https://docs.pytorch.org/ao): `quantize_` with a QATConfig, which quantises
linear layers, their weights and inputs, and nothing between them. Then one forecast in each: this project's integers in
C, and onnxruntime with the float model and its own 8-bit version. It runs in an environment of its own, since the
peers' dependencies and pynq's exclude each other.
"""

import copy
import math
import statistics
import tempfile
import time
from importlib.metadata import version

import brevitas.nn as qnn
import numpy as np
import onnxruntime
import pandas as pd
import torch
import torch.nn.functional as F
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Uint8ActPerTensorFloat
from onnxruntime import quantization
from torch import nn
from torchao.quantization import quantize_
from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

from qatlib.data import sets
from qatlib.float_model import layers, train, transformer
from qatlib.float_model.config import patch_config
from qatlib.mcu import compiled
from qatlib.quantised_model import fused, ptq, qat
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached
from qatlib.runs.experiment import RECIPES
from qatlib.system import toolchain
from qatlib.system.measurements import MEASUREMENTS

BITS = 4
STEPS_TIMED, STEPS_BEFORE = 100, 50
RECIPE = qat.QATConfig(epochs=8, learning_rate=3e-3, weight_decay=0.0, averaging=0.0, distil=1.0)
STATISTICS = 33  # steps: one epoch of ETTh1


class Signed(Int8ActPerTensorFloat):
    collect_stats_steps = STATISTICS


class Unsigned(Uint8ActPerTensorFloat):
    collect_stats_steps = STATISTICS


class BrevitasLinear(nn.Module):
    """models.Linear with quantised weights and result."""

    def __init__(self, linear, bits):
        super().__init__()
        out, width = linear.weight.shape
        self.linear = qnn.QuantLinear(
            width, out, bias=True, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=BITS
        )
        self.linear.weight.data.copy_(linear.weight.data)
        self.linear.bias.data.copy_(linear.bias.data)
        if linear.role == "unsigned":
            self.act = qnn.QuantReLU(act_quant=Unsigned, bit_width=bits)
        else:
            self.act = qnn.QuantIdentity(act_quant=Signed, bit_width=bits)

    def forward(self, x):
        return self.act(self.linear(x))


class Then(nn.Module):
    """A float primitive, its result quantised."""

    def __init__(self, module, quant, bits):
        super().__init__()
        self.module, self.act = module, qnn.QuantIdentity(act_quant=quant, bit_width=bits)

    def forward(self, *inputs):
        return self.act(self.module(*inputs))


def brevitas(model):
    """The float model with its primitives swapped for Brevitas' layers; widths as QuantConfig(4, 4)."""
    model = copy.deepcopy(model)
    widths = {"edge": 8, "residual": 8}
    for name, module in list(model.named_modules()):
        role = getattr(module, "role", None)
        if isinstance(module, layers.Linear):
            new = BrevitasLinear(module, widths.get(role, BITS))
        elif isinstance(module, layers.Softmax):
            new = Then(module, Unsigned, BITS)
        elif isinstance(module, layers.Dropout):
            new = nn.Identity()
        elif role is not None:
            new = Then(module, Signed, widths.get(role, BITS))
        else:
            continue
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, new)
    return model


def torchao(model):
    """The float model prepared by torchao: weights per channel, activations per token, both 4 bit."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, layers.Dropout):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, nn.Identity())
        elif isinstance(module, layers.Linear):  # its filter knows nn.Linear alone
            plain = nn.Linear(module.in_features, module.out_features)
            plain.weight, plain.bias = module.weight, module.bias
            parent, _, last = name.rpartition(".")
            setattr(
                model.get_submodule(parent),
                last,
                nn.Sequential(plain, nn.ReLU()) if module.role == "unsigned" else plain,
            )
    activations = IntxFakeQuantizeConfig(torch.int4, "per_token", is_symmetric=False)
    weights = IntxFakeQuantizeConfig(torch.int4, "per_channel", is_symmetric=True)
    quantize_(model, QATConfig(activation_config=activations, weight_config=weights, step="prepare"))
    return model


def peer_optimiser(model, steps):
    adam = torch.optim.AdamW(model.parameters(), lr=RECIPE.learning_rate, weight_decay=0.0, foreach=True)
    return adam, torch.optim.lr_scheduler.OneCycleLR(adam, RECIPE.learning_rate, total_steps=steps, pct_start=0.1)


def peer_fit(model, training, validation, test, teacher):
    """-> test MSE at the epoch of the lowest validation error"""
    steps = RECIPE.epochs * math.ceil(len(training) / RECIPE.batch)
    adam, schedule = peer_optimiser(model, steps)
    order, best = torch.Generator().manual_seed(0), (math.inf, None)
    for _ in range(RECIPE.epochs):
        model.train()
        for rows in torch.randperm(len(training), generator=order).split(RECIPE.batch):
            step(model, adam, training.inputs[rows], teacher[rows])
            schedule.step()
        best = min(best, (train.mse(model, validation), train.mse(model, test)))
    return best[1]


def step(model, adam, inputs, targets):
    adam.zero_grad()
    F.mse_loss(model(inputs), targets).backward()
    adam.step()


def samples_per_second(steppers, batch):
    """Medians over steps that are taken in turns, so that all meet the same machine: of the first steps, in which
    Brevitas gathers statistics, and of later ones. -> ({name: first}, {name: later})"""
    times = {name: [] for name in steppers}
    for _ in range(STEPS_BEFORE + STEPS_TIMED):
        for name, take in steppers.items():
            began = time.perf_counter()
            take()
            times[name].append(time.perf_counter() - began)
    first, later = slice(3, STATISTICS), slice(STEPS_BEFORE, None)
    return tuple(
        {name: batch / statistics.median(seconds[part]) for name, seconds in times.items()} for part in (first, later)
    )


class Calibration(quantization.CalibrationDataReader):
    """Windows for onnxruntime's static quantisation, one by one."""

    def __init__(self, inputs):
        self.windows = iter(inputs.split(1))

    def get_next(self):
        window = next(self.windows, None)
        return None if window is None else {"counts": window.numpy()}


def onnx_sessions(model, inputs):
    """{name: onnxruntime session}, one thread each: the float model, and the same quantised to 8 bit by its static
    quantisation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        plain, eight = (f"{folder}/{name}.onnx" for name in ("float", "int8"))
        torch.onnx.export(
            model.eval(), (inputs[:1],), plain, input_names=["counts"], output_names=["change"], dynamo=False
        )
        quantization.quantize_static(
            plain,
            eight,
            Calibration(inputs[:128]),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        return {name: onnxruntime.InferenceSession(path, options) for name, path in (("float", plain), ("int8", eight))}


def single_forecasts(model, integers, data, calibration, *, rounds=5000):
    """Microseconds of one window from Python, in turns: this project's C, onnxruntime on the float model and on its
    int8 one."""
    window = data.inputs[:1].numpy()
    counts = window.astype(np.int16)
    fast = compiled(integers)
    takers = {"qatlib, C, 4 bit": lambda: fast.forward(counts)}
    for name, session in onnx_sessions(model, calibration).items():
        takers[f"onnxruntime {version('onnxruntime')}, {name}"] = lambda s=session: s.run(None, {"counts": window})
    times = {name: [] for name in takers}
    for _ in range(rounds):
        for name, take in takers.items():
            began = time.perf_counter()
            take()
            times[name].append(time.perf_counter() - began)
    table = pd.DataFrame({"microseconds": {name: 1e6 * statistics.median(t[100:]) for name, t in times.items()}})
    table["qatlib_is_faster"] = table["microseconds"] / table["microseconds"].iloc[0]
    return table.rename_axis("forecast by").reset_index()


def keep(name, table, packages, suffix):
    """Write a measurement, and print it under what compiled qatlib's part in it."""
    compiled = toolchain.described(suffix)
    MEASUREMENTS[name].keep(table.to_csv(index=False), ("torch", "numpy", *packages), compiler=compiled)
    print(f"qatlib compiled by {compiled}")
    print(table.to_string(index=False, float_format="{:.4g}".format))


def steps_of(model, ours, peers, inputs, targets):
    """{name: a function that takes one training step}, of copies; the float model without dropout, like the others."""
    undropped = copy.deepcopy(model)
    for module in undropped.modules():
        if isinstance(module, layers.Dropout):
            module.level = 0
    steppers = {}
    for name, network in {"float": undropped, "qatlib": ours}.items():
        trained = copy.deepcopy(network).train()
        adam, _ = train.optimiser(trained, RECIPE, steps=1000)
        network = fused.Fused(trained).train()
        steppers[name] = lambda m=network, a=adam: train.step(m, a, inputs, targets)
    for name, network in peers.items():
        trained = copy.deepcopy(network).train()
        adam, _ = peer_optimiser(trained, 1000)
        steppers[name] = lambda m=trained, a=adam: step(m, a, inputs, targets)
    return steppers


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = sets.load("etth1")
    config = patch_config()
    training, validation, test = cached.split_batches(config, dataset)
    model = transformer.network(config, cached.sensor_of(dataset))
    train.fit(model, training, validation, RECIPES["patch"][0], seed=0)
    teacher = train.forecast(model, training.inputs)
    float_mse = train.mse(model, test)
    calibration = training.inputs[:: max(1, len(training) // cached.CALIBRATION_WINDOWS)]
    ours = ptq.quantise(model, QuantConfig(BITS, BITS), calibration)
    peers = {
        f"Brevitas {version('brevitas')}": brevitas(model),
        f"torchao {version('torchao')}, linear layers only": torchao(model),
    }
    rows = torch.arange(RECIPE.batch)
    steppers = steps_of(model, ours, peers, training.inputs[rows], teacher[rows])
    first, speed = samples_per_second(steppers, RECIPE.batch)
    fused.fit(ours, model, training, validation, RECIPE, seed=0, teacher=teacher)
    errors = {"float": float_mse, "qatlib": train.mse(ours, test)}
    errors |= {name: peer_fit(network, training, validation, test, teacher) for name, network in peers.items()}
    table = (
        pd.DataFrame({"samples_per_second": speed, "in_first_steps": first, "mse": errors})
        .rename_axis("trained by")
        .reset_index()
    )
    table["qatlib_is_faster"] = speed["qatlib"] / table["samples_per_second"]
    table["mse_against_float_percent"] = 100 * (table["mse"] / float_mse - 1)
    keep("peers", table, ("brevitas", "torchao"), ".cpp")
    forecasts = single_forecasts(model, qat.export(ours), test, calibration)
    keep("forecasters", forecasts, ("onnxruntime",), ".c")


if __name__ == "__main__":
    main()
