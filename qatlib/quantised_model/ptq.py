"""Post-training quantisation: steps from the float model's own tensors on calibration windows, no training of weights.

Methods: min-max; percentile (the outer 0.1 % clipped); MSE clipping (the range with the smallest squared error, as in
Banner et al., arXiv 1810.05723, by search); AdaRound (Nagel et al., arXiv 2004.10568: MSE steps, then rounding up or
down learned layer by layer). QAT starts from the MSE steps.
"""

import torch
import torch.nn.functional as F

from qatlib.float_model import layers
from qatlib.quantised_model import qat, quant_layers

METHODS = ("minmax", "percentile", "mse", "adaround")
SAMPLES = 16384  # values of a tensor that a range is searched on
FRACTIONS = torch.linspace(0.05, 1.0, 96)  # of the min-max range, tried by MSE clipping
PERCENTILE = 0.999


def quantise(model, config, differences, method="mse", *, exceptions=None):
    """Float model -> quantised model, ready for `qat.export`. differences: float (windows, context), counts minus
    anchor.

    exceptions: {path of a primitive: its own QuantConfig}, for mixed widths.
    """
    quantised = qat.quantize_model(model, config, exceptions=exceptions)
    calibrate(quantised, model, differences, "mse" if method == "adaround" else method)
    if method == "adaround":
        adaround(quantised, model, differences)
    return quantised.eval()


@torch.no_grad()
def calibrate(quantised, model, differences, method="mse"):
    """Set every step and zero point of a quantised model from its float model's tensors. Raises ValueError for an
    unknown method."""
    if method not in METHODS:
        raise ValueError(f"unknown PTQ method {method!r}; choose one of {', '.join(METHODS)}")
    twins, hooks = dict(quantised.named_modules()), []
    for name, module in model.named_modules():
        twin = twins.get(name)
        if isinstance(twin, quant_layers.QuantScores):
            hooks.append(module.register_forward_hook(lambda m, i, y, twin=twin: _set_exponent(twin, y)))
        elif hasattr(twin, "quantizer"):
            hooks.append(module.register_forward_hook(lambda m, i, y, q=twin.quantizer: _set_activation(q, y, method)))
        if hasattr(twin, "weight_quantizer"):
            weight = twin.weight if hasattr(twin, "weight") else twin.position.T
            _set_weight(twin.weight_quantizer, weight, method)
    model.eval()(differences)
    for hook in hooks:
        hook.remove()


def _set_exponent(twin, scores):
    """The finest power of two whose 8-bit range holds the scores."""
    reach = scores.abs().max()
    fits = [e for e in quant_layers.SCORE_EXPONENTS if 127 * 2.0**-e >= reach]
    twin.exponent.fill_(max(fits, default=min(quant_layers.SCORE_EXPONENTS)))


def _sample(x):
    """SAMPLES values of x drawn at random: a regular stride would meet the same key of every row of probabilities."""
    picks = torch.randint(x.numel(), (SAMPLES,), generator=torch.Generator().manual_seed(0))
    return x.flatten()[picks]


def _set_activation(quantizer, y, method):
    x = (y.flatten() if method == "minmax" else _sample(y)).unsqueeze(0)
    if quantizer.scheme != "asymmetric":
        step = symmetric_steps(x, quantizer.code_low, quantizer.code_high, method)
        quantizer.log_step.fill_(step.item()).log_()
    if quantizer.scheme != "symmetric":
        step, zero = asymmetric_steps(x, quantizer.bits, method)
        quantizer.log_step_asymmetric.fill_(step.item()).log_()
        quantizer.zero.fill_(zero.item())
    if quantizer.scheme == "adaptive":
        for i in (0, 1):
            quantizer.running_error[i] = quantizer.error(x, asymmetric=bool(i))


def _set_weight(quantizer, weight, method):
    rows = weight if quantizer.log_step.numel() > 1 else weight.reshape(1, -1)
    quantizer.log_step.copy_(symmetric_steps(rows, quantizer.low, quantizer.high, method).log())


def _clip_ends(x, method):
    """Lowest and highest value to keep of each row, zero within: (rows, 1) each."""
    if method == "percentile":
        ends = torch.quantile(x, torch.tensor([1 - PERCENTILE, PERCENTILE]), dim=1).unsqueeze(-1)
    else:
        ends = torch.stack([x.amin(1, keepdim=True), x.amax(1, keepdim=True)])
    return ends[0].clamp(max=0.0), ends[1].clamp(min=0.0)


def symmetric_steps(x, low, high, method):
    """Steps (rows, 1) that quantise the rows of x to low..high."""
    bottom, top = _clip_ends(x, method)
    step = torch.maximum(top / high, bottom / low if low else top / high).clamp(min=1e-8)
    if method != "mse":
        return step
    tried = step * FRACTIONS[:, None, None] * (high + 1) / high  # a little beyond min-max: rounding may pay for it
    codes = torch.floor(x / tried + 0.5).clamp(low, high)
    best = (codes * tried - x).square().mean(2).argmin(0)
    return tried[best, torch.arange(len(x))]


def asymmetric_steps(x, bits, method):
    """Step and unsigned code of zero, (1, 1) each, that quantise the single row x to 2**bits codes with zero among
    them."""
    bottom, top = _clip_ends(x, method)
    levels = (1 << bits) - 1
    if method == "mse":
        bottom, top = bottom * FRACTIONS[:, None], top * FRACTIONS[:, None]
    step = ((top - bottom) / levels).clamp(min=1e-8)
    zero = torch.floor(-bottom / step + 0.5)
    codes = (torch.floor(x / step + 0.5) + zero).clamp(0, levels)
    best = ((codes - zero) * step - x).square().mean(1).argmin()
    return step[best : best + 1], zero[best : best + 1]


def adaround(quantised, model, differences, *, steps=100, learning_rate=0.05, weight=0.02):
    """Learn for each linear layer, in order, which weights to round up, so that its output on quantised inputs stays
    the float one."""
    twins = dict(quantised.named_modules())
    for name, module in model.named_modules():
        if isinstance(module, layers.Linear):
            inputs, target = _layer_data(quantised, model, name, differences)
            _adaround_layer(twins[name], inputs, target, steps, learning_rate, weight)


def _layer_data(quantised, model, name, differences):
    """Input codes of the quantised layer and output of the float layer, flattened to (sample, channel)."""
    caught = {}
    with torch.no_grad():
        for key, network in (("codes", quantised), ("float", model)):
            layer = network.get_submodule(name)
            hook = layer.register_forward_hook(lambda m, i, y, key=key: caught.__setitem__(key, (i[0], y)))
            network.eval()(differences)
            hook.remove()
    x, target = caught["codes"][0], caught["float"][1]
    every = max(1, target[..., 0].numel() // 4096)
    x = x.with_values(x.values.flatten(0, 1)[::every])
    return x, target.flatten(0, 1)[::every]


def _adaround_layer(layer, x, target, steps, learning_rate, weight):
    quantizer, relu = layer.weight_quantizer, layer.quantizer.unsigned
    with torch.no_grad():
        _, bias, accumulator_step = layer.integer_weight(x.step)
        step = accumulator_step.unsqueeze(1) / x.step
        below = torch.floor(layer.weight / step)
        rest = (layer.weight / step - below).clamp(0.01, 0.99)
    logit = -torch.log(1.2 / (rest + 0.1) - 1)  # the stretched sigmoid's inverse: start at the float weights
    logit.requires_grad_()
    optimiser = torch.optim.Adam([logit], lr=learning_rate)
    for i in range(steps):
        up = (torch.sigmoid(logit) * 1.2 - 0.1).clamp(0, 1)
        w = (below + up).clamp(quantizer.low, quantizer.high)
        y = F.linear(x.values, w, bias) * accumulator_step
        loss = (F.relu(y) - target if relu else y - target).square().mean() / target.square().mean()
        beta = 20 - 18 * i / steps  # the regulariser hardens towards 0 or 1
        if i > steps // 5:
            loss = loss + weight / w.numel() * (1 - (2 * up - 1).abs().pow(beta)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        layer.weight.copy_((below + (logit > 0)).clamp(quantizer.low, quantizer.high) * step)
