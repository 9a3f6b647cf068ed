"""Weights that swing between two codes late in training: damped or frozen, after Nagel et al. (arXiv 2203.11086)."""

import torch

from qatlib.quant_layers import QuantLinear

MOMENTUM = 0.02  # of the running frequency of reversals, and of the running mean code
LIMIT = 0.02  # of that frequency: a second reversal before the first is forgotten freezes a weight


def damping(model):
    """Squared distance of the weights from the values that their codes stand for, clipped weights at their bound."""
    total = 0.0
    for layer in _layers(model):
        quantizer = layer.weight_quantizer
        step = quantizer.step().detach()
        scaled = (layer.weight / step).clamp(quantizer.low, quantizer.high)
        total = total + ((scaled - torch.floor(scaled.detach() + 0.5)) * step).square().sum()
    return total


class Freezer:
    """Called after every step: a weight whose code has gone back and forth twice stays at its mean code from then on."""

    def __init__(self, model):
        self.states = [(layer, *(torch.zeros_like(layer.weight) for _ in range(4))) for layer in _layers(model)]
        for layer, code, mean, _, _ in self.states:
            code.copy_(self._codes(layer))
            mean.copy_(code)

    @staticmethod
    @torch.no_grad()
    def _codes(layer):
        return layer.weight_quantizer(layer.weight, layer.weight_quantizer.step())

    @torch.no_grad()
    def __call__(self):
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


def _layers(model):
    return [module for module in model.modules() if isinstance(module, QuantLinear)]
