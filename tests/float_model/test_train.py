"""The training loop: what is learned, what is kept, and by which errors."""

import copy

import numpy as np
import pytest
import torch

from qatlib.float_model import train, transformer
from qatlib.float_model.config import FAMILIES
from qatlib.float_model.train import Batches, TrainConfig
from qatlib.quantised_model import fused, quantisers
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quantisers import QuantConfig


@pytest.fixture
def linear():
    """A model of one layer, and data that a linear law rules."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 4, generator=generator)
    targets = inputs @ torch.tensor([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0], [-1.0, 1.0]])
    torch.manual_seed(0)
    return torch.nn.Linear(4, 2), Batches(inputs[:192], targets[:192]), Batches(inputs[192:], targets[192:])


def scripted(monkeypatch, errors):
    """Validation errors as given; -> the parameters at each validation."""
    seen, errors = [], iter(errors)

    def mse(model, data, loss):
        seen.append([p.detach().clone() for p in model.parameters()])
        return next(errors)

    monkeypatch.setattr(train, "mse", mse)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_are_counts_and_standardised_truth_minus_the_anchor(dataset, sensor, batches, float_model, family):
    config = float_model(family).config
    made, windows = batches(config)[1], dataset.windows("validation", config.context, config.horizon)
    anchor = windows.counts[:, -1:].astype(np.int64) if family != "point" else dataset.offset
    np.testing.assert_array_equal(made.inputs.numpy(), windows.counts - anchor)
    back = made.targets.numpy() + dataset.standardise(anchor * dataset.resolution)
    np.testing.assert_allclose(back, windows.truth, atol=1e-5)
    assert made.inputs.dtype == made.targets.dtype == torch.float32 and len(made) == len(windows.rows)


def test_forecast_scores_every_window_without_dropout(float_model, batches):
    model, inputs = copy.deepcopy(float_model("patch")).train(), batches(float_model("patch").config)[1].inputs
    forecast = train.forecast(model, inputs, batch=50)
    assert forecast.shape == (len(inputs), 6) and not forecast.requires_grad
    torch.testing.assert_close(forecast, train.forecast(model, inputs, batch=len(inputs)))


def test_mse(float_model, batches):
    data = batches(float_model("patch").config)[1]
    forecast = train.forecast(float_model("patch"), data.inputs)
    assert train.mse(float_model("patch"), data) == pytest.approx((forecast - data.targets).square().mean().item())


def test_fit_learns(linear):
    model, training, validation = linear
    errors, seconds = train.fit(
        model, training, validation, TrainConfig(60, 32, 0.05, weight_decay=0, averaging=0.5), seed=0
    )
    assert len(errors) == 61 and errors[-1] < 1e-3 * errors[0] and seconds > 0
    assert train.mse(model, validation) == pytest.approx(min(errors), rel=1e-3)


@pytest.mark.parametrize(
    ("errors", "best"),
    [([5, 4, 1, 2, 3], 2), ([5, 4, 3, 2, 1], 4), ([1, 2, 3, 4, 5], 0), ([3, float("nan"), 2, 4, 9], 2)],
)
def test_the_best_epoch_by_validation_is_kept(linear, monkeypatch, errors, best):
    """The weights are those that were scored best, be it before the first epoch."""
    model, training, validation = linear
    seen = scripted(monkeypatch, errors)
    assert str(train.fit(model, training, validation, TrainConfig(4, 32, 0.05), seed=0)[0]) == str(errors)
    assert all(torch.equal(p, kept) for p, kept in zip(model.parameters(), seen[best], strict=True))
    assert not torch.equal(seen[best][0], seen[best - 1][0]) and not model.training


def test_the_validation_set_does_not_train(linear):
    model, training, validation = linear
    twin = copy.deepcopy(model)
    other = Batches(validation.inputs, validation.targets + 100)
    errors = [
        train.fit(m, training, v, TrainConfig(5, 32, 0.05), seed=0)[0] for m, v in ((model, validation), (twin, other))
    ]
    assert min(errors[0]) == errors[0][-1] and min(errors[1]) != errors[0][-1]
    assert all(e > 1000 for e in errors[1])


def test_the_same_seed_gives_the_same_weights(batches, sensor, float_model):
    config, weights = float_model("patch").config, []
    for seed in (0, 0, 1):
        torch.manual_seed(5)
        model = transformer.network(config, sensor)
        torch.manual_seed(seed + 100)  # what came before must not matter
        train.fit(model, *batches(config), TrainConfig(1, 64, averaging=0.5), seed=seed)
        weights.append(model.head.weight.detach().clone())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.25, 2.0), (1.0, 5.0)])
def test_a_teacher_is_mixed_into_the_targets(share, expected):
    """A constant truth of 1 and a teacher who says 5."""
    inputs = torch.zeros(64, 4)
    data = Batches(inputs, torch.full((64, 2), 1.0))
    mixed = Batches(inputs, torch.full((64, 2), expected))
    model = torch.nn.Linear(4, 2)
    config = QATConfig(200, 32, 0.1, weight_decay=0, averaging=0.5, distil=share)
    fused.fit(model, model, data, mixed, config, seed=0, teacher=torch.full((64, 2), 5.0))
    assert model.bias.tolist() == pytest.approx([expected] * 2, abs=1e-2)


def test_hooks_see_every_step_and_may_keep_no_early_epoch(linear):
    class Hook(train.Hook):
        def __init__(self):
            self.calls = []

        def before(self, taken, steps):
            self.calls.append((taken, steps))

        def after(self):
            self.calls.append("after")

        def may_keep(self, taken, steps):
            return False

        def end(self):
            self.calls.append("end")

    model, training, validation = linear
    before, hook = copy.deepcopy(model.state_dict()), Hook()
    errors, _ = train.fit(model, training, validation, TrainConfig(2, 96, 0.05), seed=0, hooks=[hook])
    assert hook.calls == [(0, 4), "after", (1, 4), "after", (2, 4), "after", (3, 4), "after", "end"]
    assert min(errors) < errors[0] and all(torch.equal(before[name], kept) for name, kept in model.state_dict().items())


def test_weight_decay_is_for_matrices_alone(float_model, quantised):
    """Without any gradient but zero, matrices shrink; biases, positions, gains, steps and zero points stay."""
    twin = quantised(float_model("decoder"), QuantConfig(4, 4, scheme="asymmetric"))
    before = {name: p.detach().clone() for name, p in twin.named_parameters()}
    adam, _ = train.optimiser(twin, TrainConfig(learning_rate=0.1, weight_decay=0.5), steps=100)
    for p in twin.parameters():
        p.grad = torch.zeros_like(p)
    adam.step()
    shrunk = {name for name, p in twin.named_parameters() if not torch.equal(p, before[name])}
    assert shrunk == {name for name in before if name.endswith(".weight")} and len(shrunk) > 10


def test_the_optimiser_reaches_every_parameter(float_model):
    model = copy.deepcopy(float_model("decoder"))
    adam, _ = train.optimiser(model, TrainConfig(), steps=100)
    before = [p.detach().clone() for p in model.parameters()]
    for group in adam.param_groups:
        for vector in group["params"]:
            vector.grad.fill_(1.0)
    adam.step()
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


# -- the adaptive scheme


def adaptive_quantizers(model):
    return [m for m in model.modules() if isinstance(m, quantisers.ActivationQuantizer) and m.scheme == "adaptive"]


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_a_handful_of_steps_is_a_training_too(linear, steps):
    """Whatever a small file leaves: the schedule takes any number of steps."""
    model, training, validation = linear
    errors, _ = train.fit(model, training, validation, TrainConfig(steps, 192, 0.05), seed=0)
    assert len(errors) == steps + 1


@pytest.mark.parametrize("epochs", [5, 10, 8, 3])
def test_choices_are_free_at_first_and_frozen_in_the_last_fifth(float_model, quantised, batches, monkeypatch, epochs):
    twin, steps = quantised(float_model("patch"), QuantConfig(4, 4, scheme="adaptive")), []
    data = Batches(*(part[:160] for part in (batches(twin.config)[0].inputs, batches(twin.config)[0].targets)))
    real = train.step

    def step(model, *arguments):
        steps.append({q.choosing for q in adaptive_quantizers(model)})
        return real(model, *arguments)

    monkeypatch.setattr(train, "step", step)
    fused.fit(twin, twin, data, data, QATConfig(epochs, 16), seed=0)
    assert len(steps) == 10 * epochs
    assert all(choosing == {True} for choosing in steps[: int(0.6 * len(steps))])
    assert all(choosing == {False} for choosing in steps[-int(0.2 * len(steps)) :])


def test_the_kept_model_uses_the_schemes_that_were_trained_last(float_model, quantised, batches, monkeypatch):
    """Choices are not averaged: the scheme that a tensor is frozen with is the one it is validated and exported
    with."""
    twin = quantised(float_model("patch"), QuantConfig(4, 4, scheme="adaptive"))
    head, taken, real = twin.head.quantizer, [], train.step

    def step(*arguments):
        if len(taken) == 27:  # a late change of mind, one step before choices are frozen
            head.running_error.copy_(torch.tensor([1.0, 0.9]))
        elif len(taken) < 27:
            head.running_error.copy_(torch.tensor([0.0, 9.0]))
        taken.append(head.is_asymmetric())
        return real(*arguments)

    monkeypatch.setattr(train, "step", step)
    scripted(monkeypatch, [6, 5, 4, 3, 2, 1])
    training, validation = batches(twin.config)
    fused.fit(twin, twin, training, validation, QATConfig(5, 80, 1e-3), seed=0)
    assert len(taken) > 30 and head.is_asymmetric() and taken[-1]
