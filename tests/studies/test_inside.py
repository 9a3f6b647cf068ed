"""What goes into a primitive and what comes out, by the model's own result."""

import pytest
import torch

from qatlib.float_model.config import Sensor, patch_config
from qatlib.float_model.transformer import Forecaster
from qatlib.quantised_model import ptq
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.studies import inside


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Forecaster(patch_config(48, 6), Sensor(1.0, 0.0, 2.0)).eval()


DIFFERENCES = torch.arange(96.0).view(2, 48).sin()


def test_the_heads_result_is_the_forecast(model):
    x, y = inside.passed(model, "head", DIFFERENCES)
    assert torch.equal(y.flatten(1), model(DIFFERENCES))
    assert torch.equal(y, torch.nn.functional.linear(x, model.head.weight, model.head.bias))


def test_a_quantised_model_passes_codes_on(model):
    twin = ptq.quantise(model, QuantConfig(4, 4), DIFFERENCES)
    _, y = inside.passed(twin, "head", DIFFERENCES)
    assert torch.equal(y.values, y.values.round())
    assert torch.equal(y.values.flatten(1) * y.step, twin(DIFFERENCES))


def test_the_model_is_left_without_a_hook(model):
    inside.passed(model, "head", DIFFERENCES)
    assert not model.head._forward_hooks


def test_an_unknown_primitive_is_refused(model):
    with pytest.raises(AttributeError, match="no attribute"):
        inside.passed(model, "no_such", DIFFERENCES)
