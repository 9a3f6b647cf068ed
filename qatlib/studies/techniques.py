"""What others do to the last part of QAT, as hooks of `train.fit`: notebook 08 tells what each is worth here.

Weights that swing between two codes late in training are damped or frozen (Nagel et al., arXiv 2203.11086), activations
are narrowed before weights, batch norm is folded only in the end. Each is a frozen dataclass, and makes its hook when
called with the model.
"""

import copy
from dataclasses import dataclass

import torch

from qatlib.float_model.train import Hook
from qatlib.quantised_model.quant_layers import QuantAddNorm, QuantLinear

MOMENTUM = 0.02  # of the running frequency of reversals, and of the running mean code
LIMIT = 0.02  # of that frequency: a second reversal before the first is forgotten freezes a weight


def _linear_layers(model):
    return [module for module in model.modules() if isinstance(module, QuantLinear)]


@dataclass(frozen=True)
class Damping:
    """Weights are pulled to the values that their codes stand for; `strength` at the end, from 0 at the start."""

    strength: float

    def __call__(self, model, origin):
        return _Damping(model, self.strength)


class _Damping(Hook):
    def __init__(self, model, strength):
        self.layers, self.strength = _linear_layers(model), strength

    def before(self, taken, steps):
        return self.strength * taken / steps * self.distance()

    def distance(self):
        """Squared distance of the weights from the values of their codes, clipped weights at their bound."""
        total = 0.0
        for layer in self.layers:
            quantizer = layer.weight_quantizer
            step = quantizer.step().detach()
            scaled = (layer.weight / step).clamp(quantizer.low, quantizer.high)
            total = total + ((scaled - torch.floor(scaled.detach() + 0.5)) * step).square().sum()
        return total


@dataclass(frozen=True)
class Freezing:
    """A weight whose code has gone back and forth twice stays at its mean code from then on."""

    def __call__(self, model, origin):
        return _Freezing(model)


class _Freezing(Hook):
    def __init__(self, model):
        self.states = [(layer, *(torch.zeros_like(layer.weight) for _ in range(4))) for layer in _linear_layers(model)]
        for layer, code, mean, _, _ in self.states:
            code.copy_(self._codes(layer))
            mean.copy_(code)

    @staticmethod
    @torch.no_grad()
    def _codes(layer):
        return layer.weight_quantizer(layer.weight, layer.weight_quantizer.step())

    @torch.no_grad()
    def after(self):
        for layer, code, mean, direction, frequency in self.states:
            new = self._codes(layer)
            change = (new - code).sign()
            frequency.lerp_((change * direction < 0).float(), MOMENTUM)
            direction.copy_(torch.where(change != 0, change, direction))
            code.copy_(new)
            frozen = frequency > LIMIT
            mean.copy_(torch.where(frozen, mean, mean.lerp(new, MOMENTUM)))
            frequency[frozen] = 1e9  # for good
            layer.weight[frozen] = (torch.floor(mean + 0.5) * layer.weight_quantizer.step())[frozen]


@dataclass(frozen=True)
class ActivationsFirst:
    """Weights keep 8 bits for that share of the steps; what is kept comes from after it."""

    share: float

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise ValueError(f"the share is {self.share}; it is one of the steps, above 0 and below 1")

    def __call__(self, model, origin):
        return _ActivationsFirst(model, self.share)


class _ActivationsFirst(Hook):
    def __init__(self, model, share):
        self.quantizers, self.share = [layer.weight_quantizer for layer in _linear_layers(model)], share

    def before(self, taken, steps):
        for quantizer in self.quantizers:
            quantizer.use_bits(8 if taken < int(self.share * steps) else quantizer.bits)

    def may_keep(self, taken, steps):
        return taken > int(self.share * steps)


@dataclass(frozen=True)
class LateFolding:
    """Batch norm takes its statistics from the batches until the end of training, and is folded then."""

    def __call__(self, model, origin):
        return _LateFolding(model, origin)


class _LateFolding(Hook):
    def __init__(self, model, origin):
        self.model = model
        for path, module in list(model.named_modules()):
            if isinstance(module, QuantAddNorm):
                model.set_submodule(path, UnfoldedAddNorm(module, origin.get_submodule(path)))

    def end(self):
        for path, module in list(self.model.named_modules()):
            if isinstance(module, UnfoldedAddNorm):
                module.folded.gain.data, module.folded.offset.data = (values.detach() for values in module.affine())
                self.model.set_submodule(path, module.folded)


class UnfoldedAddNorm(QuantAddNorm):
    """Residual add with the batch norm of the float model, `norm`, still beside it."""

    still = False

    def __init__(self, folded, norm):
        torch.nn.Module.__init__(self)
        self.folded, self.norm = folded, copy.deepcopy(norm)
        self.path, self.quantizer = folded.path, folded.quantizer

    def affine(self):
        gain = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        return gain, self.norm.bias - self.norm.running_mean * gain

    def forward(self, x, y):
        if self.training:
            real = (codes.values.detach() * codes.step.detach() for codes in (x, y))
            self.norm.train()(*real)  # moves its running statistics
        return self.added(x, y)
