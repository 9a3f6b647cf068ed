"""One training loop, for float and quantised models alike."""

import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from qatlib import fused, oscillation, qat


@dataclass(frozen=True)
class TrainConfig:
    """Recipe. learning_rate is the peak of a one-cycle schedule; `averaging` is the decay of the averaged weights that are kept.

    Of QAT alone: `distil` is the share of a teacher's forecast in the target; `weights_after` the share of the steps in which weights keep
    8 bits, activations going first; `damping` the weight of `oscillation.damping` at the end, from 0 at the start; `freezing`: whether
    oscillating weights are frozen.
    """

    epochs: int = 30
    batch: int = 256
    learning_rate: float = 5e-3
    weight_decay: float = 0.2
    averaging: float = 0.99
    distil: float = 0.0
    weights_after: float = 0.0
    damping: float = 0.0
    freezing: bool = False

    def __post_init__(self):
        if not 0 <= self.weights_after < 1:
            raise ValueError(f"weights_after is {self.weights_after}; it is a share of the steps, 0 or more and below 1")


@dataclass(frozen=True)
class Batches:
    """Windows as the models take them: inputs (n, context), counts minus anchor; targets (n, horizon), standardised truth minus anchor."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self):
        return len(self.inputs)


def batches(windows, sensor, *, subtract_last):
    """data.Windows -> Batches, in float32."""
    counts = torch.from_numpy(windows.counts.astype("float64"))
    anchor = counts[:, -1:] if subtract_last else torch.tensor(float(sensor.offset))
    targets = torch.from_numpy(windows.truth) - (anchor * sensor.resolution - sensor.mean) / sensor.std
    return Batches((counts - anchor).float(), targets.float())


@torch.no_grad()
def forecast(model, inputs, *, batch=512):
    """Standardised change from the anchor, dropout off: (n, context) -> (n, horizon)."""
    model.eval()
    return torch.cat([model(part) for part in inputs.split(batch)])


def mse(model, data):
    """Mean squared error in standardised units."""
    return F.mse_loss(forecast(model, data.inputs), data.targets).item()


def fit(model, train, validation, config, *, seed, teacher=None):
    """Train in place; the model ends with the averaged weights of the epoch with the lowest validation error
    (or as it came, if none is lower).

    teacher: forecasts (n, horizon) for the training inputs, mixed into the targets by `config.distil`.
    Returns the validation errors, from before the first epoch on, and the seconds spent in training steps.
    """
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    targets = train.targets if teacher is None else torch.lerp(train.targets, teacher, config.distil)
    steps = config.epochs * math.ceil(len(train) / config.batch)
    adam, schedule = optimiser(model, config, steps=steps)
    buffers = dict(model.named_buffers())
    weights = [group["params"][0].data for group in adam.param_groups]
    choices = [b for name, b in buffers.items() if name.endswith("running_error")]  # kept with the rest, but no mean of choices is taken
    state = weights + [b for name, b in buffers.items() if name.endswith(("running_mean", "running_var"))]
    average = [s.clone() for s in state]
    errors, best, seconds, taken = [mse(model, validation)], [s.clone() for s in state + choices], 0.0, 0
    lowest, narrow_at = errors[0], int(config.weights_after * steps)
    freezer = None
    network = fused.Fused(model)
    for _ in range(config.epochs):
        began = time.perf_counter()
        network.train()
        for rows in torch.randperm(len(train), generator=order).split(config.batch):
            if taken == int(0.8 * steps):
                qat.freeze_choices(model)
            if narrow_at:
                qat.use_weight_bits(model, 8 if taken < narrow_at else None)
            if config.freezing and taken == narrow_at:
                freezer = oscillation.Freezer(model)
            penalty = config.damping * taken / steps * oscillation.damping(model) if config.damping else None
            step(network, adam, train.inputs[rows], targets[rows], penalty)
            schedule.step()
            taken += 1
            if freezer:
                freezer()
            torch._foreach_lerp_(average, state, 1 - min(config.averaging, (1 + taken) / (10 + taken)))  # young averages forget the start
        seconds += time.perf_counter() - began
        _exchange(state, average)
        errors.append(mse(network, validation))
        if errors[-1] < lowest and taken > narrow_at:
            lowest, best = errors[-1], [s.clone() for s in state + choices]
        _exchange(state, average)
    torch._foreach_copy_(state + choices, best)
    network.eval()
    return errors, seconds


def step(model, optimiser, inputs, targets, penalty=None):
    """One optimiser step on the squared error, and on a penalty where there is one; -> the loss."""
    optimiser.zero_grad(set_to_none=False)
    loss = F.mse_loss(model(inputs), targets)
    if penalty is not None:
        loss = loss + penalty
    loss.backward()
    optimiser.step()
    return loss


def optimiser(model, config, *, steps):
    """AdamW, and its one-cycle schedule; weight decay on the matrices only: not on biases, norms, positions, quantiser steps."""
    decayed = [p for name, p in model.named_parameters() if name.endswith(".weight") and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not (name.endswith(".weight") and p.ndim == 2)]
    groups = [{"params": [_joined(ps)], "weight_decay": decay} for ps, decay in ((decayed, config.weight_decay), (others, 0.0)) if ps]
    adam = torch.optim.AdamW(groups, lr=config.learning_rate, foreach=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, config.learning_rate, total_steps=max(steps, 10), pct_start=max(0.1, 2 / max(steps, 10))
    )
    return adam, schedule


def _joined(parameters):
    """Make parameters views of one vector, and their gradients of its gradient. -> the vector: one tensor to step in place of many"""
    vector, sizes = torch.cat([p.detach().flatten() for p in parameters]), [p.numel() for p in parameters]
    vector.grad = torch.zeros_like(vector)
    for p, part, gradient in zip(parameters, vector.split(sizes), vector.grad.split(sizes), strict=True):
        p.data, p.grad = part.view_as(p), gradient.view_as(p)
    return vector


def _exchange(a, b):
    for x, y in zip(a, b, strict=True):
        kept = x.clone()
        x.copy_(y)
        y.copy_(kept)
