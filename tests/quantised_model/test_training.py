"""What learns, and that it helps."""

import numpy as np
import pytest
import torch

from qatlib.float_model import train
from qatlib.float_model.config import FAMILIES
from qatlib.integer_model import kernels
from qatlib.quantised_model import ptq, qat, quant_layers, quantisers
from qatlib.quantised_model.quantisers import SCHEMES, QuantConfig
from tests.quantised_model.trained import few_steps


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_parameter_in_use_learns(float_model, batches, family, scheme):
    """Weights, biases, positions, steps and zero points receive gradients; of an adaptive tensor the chosen scheme
    does."""
    model = float_model(family, layers=2)
    data = batches(model.config)[0]
    twin = ptq.quantise(model, QuantConfig(3, 3, 4, 4, scheme), data.inputs[:60]).train()
    twin(data.inputs[:60])  # the first batch may change choices
    torch.nn.functional.mse_loss(twin(data.inputs[:256]), data.targets[:256]).backward()
    unused = (
        {f"operand.quantizer.{p}" for p in ("log_step", "log_step_asymmetric", "zero")} if family == "point" else set()
    )
    for name, module in twin.named_modules():
        if isinstance(module, quantisers.ActivationQuantizer) and module.scheme != "symmetric":
            names = ("log_step",) if module.is_asymmetric() else ("log_step_asymmetric", "zero")
            unused |= {f"{name}.{parameter}" for parameter in names}
    for name, parameter in twin.named_parameters():
        if name in unused:
            assert parameter.grad is None, name
        elif not name.endswith("zero"):  # a zero point learns from clipped values, which not every tensor has
            assert parameter.grad is not None and (parameter.grad != 0).any(), name
    zeros = [p.grad for name, p in twin.named_parameters() if name.endswith("zero") and name not in unused]
    assert scheme == "symmetric" or any(g != 0 for g in zeros)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", quant_layers.SCORE_EXPONENTS)
def test_softmax_of_every_score_difference_is_that_of_the_table(exponent, dtype):
    """Two keys, every pair (127, score) and rows of all scores: equal to the integers whichever way the entries are
    come by."""
    scores = torch.tensor([[127] * 256, list(range(-128, 128))], dtype=dtype).T.reshape(1, 1, 256, 2)
    rows = torch.arange(-128, 128, dtype=dtype).reshape(1, 1, 1, 256)
    for x, steps in ((scores, (1 / 255, 1 / 15)), (rows, (1 / 255 / 20, 1 / 300))):
        for step in steps:
            module = quant_layers.QuantSoftmax.from_float(None, QuantConfig())
            with torch.no_grad():
                module.quantizer.log_step.fill_(np.log(step))
            module.to(dtype)
            codes = module(quantisers.Codes(x, torch.tensor(2.0**-exponent, dtype=dtype))).values.detach().int().numpy()
            numerator, k = kernels.softmax_constants(float(module.quantizer.step().detach()))
            table = kernels.softmax_table(exponent)
            np.testing.assert_array_equal(codes, kernels.softmax(x.int().numpy(), table, numerator, k, 255))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_gradient_is_that_of_the_real_softmax(dtype):
    """With fine steps, the table softmax and its gradient come close to the real ones."""
    scores = torch.randint(-60, 60, (2, 1, 4, 6), generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    weights = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(1)).to(dtype)
    module = quant_layers.QuantSoftmax.from_float(None, QuantConfig())
    with torch.no_grad():
        module.quantizer.log_step.fill_(np.log(1 / 250))
    module.to(dtype)
    codes = module(quantisers.Codes(scores, torch.tensor(2.0**-5, dtype=dtype)))
    (codes.values * codes.step * weights).sum().backward()
    exact = scores.detach().clone().requires_grad_()
    ((exact * 2.0**-5).softmax(-1) * weights).sum().backward()
    torch.testing.assert_close(codes.values * codes.step, (exact * 2.0**-5).softmax(-1), atol=5e-3, rtol=0)
    torch.testing.assert_close(scores.grad, exact.grad, atol=1e-3, rtol=0)


def test_training_improves_on_post_training_quantisation(float_model, batches):
    """At 2 bits, by far."""
    model = float_model("patch", d_model=16)
    training, validation = batches(model.config)
    twin = ptq.quantise(model, QuantConfig(2, 2), training.inputs[:200])
    before = train.mse(twin, validation)
    few_steps(twin, (training, validation), epochs=5)
    assert train.mse(twin, validation) < 0.8 * before


def test_training_sees_what_evaluation_gives(float_model, quantised, batches):
    """Quantised models have no dropout: training in float32 and evaluation in float64 give the same codes but for rare
    ties."""
    model = float_model("patch")
    twin, inputs = quantised(model, QuantConfig(4, 4)), batches(model.config)[1].inputs
    codes = torch.floor(twin.train()(inputs) / twin.head.quantizer.step() + 0.5).int().numpy()
    assert (codes == qat.output_codes(twin, inputs)).mean() > 0.99


def test_choices_of_the_adaptive_scheme_freeze(float_model, quantised):
    twin = quantised(float_model("patch"), QuantConfig(scheme="adaptive"))
    hook = qat.FreezeChoices(twin)
    hook.before(7, 10)
    adaptive = [m for m in twin.modules() if isinstance(m, quantisers.ActivationQuantizer) and m.scheme == "adaptive"]
    assert adaptive and all(m.choosing for m in adaptive)
    hook.before(8, 10)
    assert not any(m.choosing for m in adaptive)
