"""One training loop, for float and quantised models alike."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class TrainConfig:
    """Recipe. learning_rate is the peak of a one-cycle schedule; `averaging` is the decay of the averaged weights that
    are kept."""

    epochs: int = 30
    batch: int = 256
    learning_rate: float = 5e-3
    weight_decay: float = 0.2
    averaging: float = 0.99


class Hook:
    """What a recipe does around the steps of `fit`. This one does nothing."""

    def before(self, taken, steps):
        """Ahead of every step, with the steps taken so far and all there will be. -> a penalty added to the loss, or
        None"""

    def after(self):
        """After every step."""

    def may_keep(self, taken, steps):
        """Whether the network may be kept as it is after so many steps, should its validation error be the lowest."""
        return True

    def end(self):
        """When the network is as it is kept."""


@dataclass(frozen=True)
class Batches:
    """Windows as the models take them: inputs (n, context), counts minus anchor; targets (n, horizon), standardised
    truth minus anchor; of several channels with one more axis for them. For a classifier targets are (n, label): what
    the window's label weighs, at its place."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self):
        return len(self.inputs)


def batches(windows, sensor, *, subtract_last, targets=None):
    """data.Windows -> Batches, in float32. subtract_last: for each channel. targets: of several channels the indices of
    those that are forecast; None: all."""
    counts = windows.counts.astype("float64")
    anchor = np.where(subtract_last, counts[:, -1:], sensor.offset)
    last = (anchor * sensor.resolution - sensor.mean) / sensor.std
    change = windows.truth - last
    change = change if change.ndim == 2 or targets is None else change[:, :, list(targets)]
    return Batches(torch.from_numpy(counts - anchor).float(), torch.from_numpy(change).float())


def labelled_batches(windows, sensor, *, subtract_last, weights):
    """data.LabelledWindows -> Batches, in float32. weights: of the labels, (label,)."""
    counts = windows.counts.astype("float64")
    anchor = np.where(subtract_last, counts[:, -1:], sensor.offset)
    return Batches(
        torch.from_numpy(counts - anchor).float(), torch.from_numpy(np.diag(weights)[windows.labels]).float()
    )


@torch.no_grad()
def forecast(model, inputs, *, batch=512):
    """Standardised change from the anchor, dropout off: (n, context) -> (n, horizon)."""
    model.eval()
    return torch.cat([model(part) for part in inputs.split(batch)])


def mse(model, data, loss=F.mse_loss):
    """Mean squared error in standardised units, or another mean loss."""
    return loss(forecast(model, data.inputs), data.targets).item()


def fit(network, train, validation, config, *, seed, hooks=(), loss=F.mse_loss):
    """Train in place; the network ends with the averaged weights of the epoch with the lowest validation error
    (or as it came, if none is lower). loss: (forecasts, targets) -> the error.

    Returns the validation errors, from before the first epoch on, and the seconds spent in training steps.
    """
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    steps = config.epochs * math.ceil(len(train) / config.batch)
    adam, schedule = optimiser(network, config, steps=steps)
    averaged, choices = _state(network, adam)
    average, best = [s.clone() for s in averaged], [s.clone() for s in averaged + choices]
    errors, seconds, taken = [mse(network, validation, loss)], 0.0, 0
    lowest = errors[0]
    for _ in range(config.epochs):
        began = time.perf_counter()
        network.train()
        for rows in torch.randperm(len(train), generator=order).split(config.batch):
            penalties = [p for hook in hooks if (p := hook.before(taken, steps)) is not None]
            step(network, adam, train.inputs[rows], train.targets[rows], sum(penalties) if penalties else None, loss)
            schedule.step()
            taken += 1
            for hook in hooks:
                hook.after()
            decay = min(config.averaging, (1 + taken) / (10 + taken))  # young averages forget the start
            torch._foreach_lerp_(average, averaged, 1 - decay)
        seconds += time.perf_counter() - began
        _exchange(averaged, average)
        errors.append(mse(network, validation, loss))
        if errors[-1] < lowest and all(hook.may_keep(taken, steps) for hook in hooks):
            lowest, best = errors[-1], [s.clone() for s in averaged + choices]
        _exchange(averaged, average)
    torch._foreach_copy_(averaged + choices, best)
    for hook in hooks:
        hook.end()
    network.eval()
    return errors, seconds


def _state(network, adam):
    """What is averaged: weights, and the statistics of batch norm; and what is kept beside it but not averaged: choices
    have no mean."""
    weights = [group["params"][0].data for group in adam.param_groups]
    buffers = list(network.named_buffers())
    statistics = [b for name, b in buffers if name.endswith(("running_mean", "running_var"))]
    return weights + statistics, [b for name, b in buffers if name.endswith("running_error")]


def step(model, optimiser, inputs, targets, penalty=None, loss=F.mse_loss):
    """One optimiser step on the loss, and on a penalty where there is one; -> their sum."""
    optimiser.zero_grad(set_to_none=False)
    found = loss(model(inputs), targets)
    if penalty is not None:
        found = found + penalty
    found.backward()
    optimiser.step()
    return found


def optimiser(model, config, *, steps):
    """AdamW, and its one-cycle schedule; weight decay on the matrices only: not on biases, norms, positions, quantiser
    steps."""
    decayed = [p for name, p in model.named_parameters() if name.endswith(".weight") and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not (name.endswith(".weight") and p.ndim == 2)]
    groups = [
        {"params": [_joined(ps)], "weight_decay": decay}
        for ps, decay in ((decayed, config.weight_decay), (others, 0.0))
        if ps
    ]
    adam = torch.optim.AdamW(groups, lr=config.learning_rate, foreach=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, config.learning_rate, total_steps=max(steps, 10), pct_start=max(0.1, 2 / max(steps, 10))
    )
    return adam, schedule


def _joined(parameters):
    """Make parameters views of one vector, and their gradients of its gradient. -> the vector: one tensor to step in
    place of many"""
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
