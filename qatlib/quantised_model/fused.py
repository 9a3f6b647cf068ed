"""A quantised model's training step in few passes: its integer program, forward and backward, by `fused.cpp` in
float32.

A layer in PyTorch's own operations reads and writes its activations some twenty times a step; here it does so once
forward and once backward. What is evaluated and exported is `quant_layers`' own arithmetic in float64; a test holds
values and gradients of the two to each other.
"""

import ctypes
import math
import weakref
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from qatlib.float_model import train
from qatlib.quantised_model import qat
from qatlib.quantised_model.quantisers import ActivationQuantizer, WeightQuantizer
from qatlib.system import paths, toolchain

OPTIONS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# Tuned for some processors (Zen), g++ multiplies and adds apart where it sees a chain of sums: slower here, and other
# last digits than on the next processor with the same vectors.
OPTIONS += ("--param=avoid-fma-max-bits=0", "-Wno-unused-command-line-argument")


@lru_cache
def _library():
    library = toolchain.library(paths.PACKAGE / "quantised_model" / "fused.cpp", *OPTIONS)
    pointer, number = ctypes.c_void_p, ctypes.c_long
    library.plan.argtypes, library.plan.restype = [pointer, number, pointer, number], pointer
    library.operation.argtypes = [pointer, ctypes.c_char_p, pointer, pointer]
    library.forward.argtypes, library.forward.restype = [pointer, pointer, pointer, number, pointer], None
    library.backward.argtypes, library.backward.restype = [pointer] * 3, None
    library.free_plan.argtypes, library.free_plan.restype = [pointer], None
    return library


def _numbers(values):
    return (ctypes.c_long * len(values))(*values)


class Plan:
    """A quantised model's integer program in `fused.cpp`, with room for the values and gradients of a batch."""

    def __init__(self, model):
        graph = qat.program(model)[0]
        self.parameters, self.runs, self._index = [], 0, {}
        tensors, sizes, made = {}, [], []
        for operation in graph.operations:
            if operation.kind == "reshape":
                tensors[operation.output] = tensors[operation.inputs[0]]
                continue
            tensors[operation.output] = len(sizes)
            sizes.append(math.prod(graph.tensors[operation.output].shape))
            inputs = [tensors[name] for name in operation.inputs]
            kind, indices, numbers = self._described(operation, model.get_submodule(operation.path), graph)
            made.append((kind, [*inputs, len(sizes) - 1, *indices], numbers))
        self.sizes = [p.numel() for p in self.parameters]
        self.address = _library().plan(_numbers(sizes), len(sizes), _numbers(self.sizes), len(self.sizes))
        weakref.finalize(self, _library().free_plan, self.address)
        for kind, indices, numbers in made:
            if not _library().operation(
                self.address, kind.encode(), _numbers(indices), (ctypes.c_double * len(numbers))(*numbers)
            ):
                raise NotImplementedError(f"fused.cpp knows no {kind!r}")

    def _parameter(self, tensor):
        """Its index; -1 for None."""
        if tensor is None:
            return -1
        if id(tensor) not in self._index:
            self._index[id(tensor)] = len(self.parameters)
            self.parameters.append(tensor)
        return self._index[id(tensor)]

    def _described(self, operation, module, graph):
        """-> kind, indices after those of the tensors, and numbers, as `operation` in fused.cpp takes them."""
        kind, indices, numbers = operation.kind, [], []
        if hasattr(module, "quantizer"):
            zero, low, high = module.quantizer.range()
            indices, numbers = (
                [self._parameter(module.quantizer.current_log_step()), self._parameter(zero)],
                [low, high],
            )
        weights = getattr(module, "weight_quantizer", None)
        if kind == "quantise":
            units = module.source.unit.reshape(-1).tolist()
            indices += [len(units), graph.tensors[operation.output].shape[1]]
            numbers += units
        elif kind == "linear":
            outputs, inputs = module.weight.shape
            indices += [self._parameter(p) for p in (module.weight, module.bias, weights.log_step)]
            indices += [inputs, outputs, weights.log_step.numel()]
            numbers += [-math.log(2) * weights.finer, module.room, weights.low, weights.high]
        elif kind == "add":
            indices += [self._parameter(module.gain), self._parameter(module.offset), len(module.gain)]
        elif kind == "add_position":
            indices += [self._parameter(module.position), self._parameter(weights.log_step)]
            indices += [module.position.shape[1], weights.log_step.numel()]
            numbers += [weights.low, weights.high]
        elif kind in ("scores", "context"):
            indices += [module.heads, graph.tensors[operation.inputs[1]].shape[-1] // module.heads]
            numbers += [2.0 ** -int(module.exponent)] if kind == "scores" else []
        elif kind == "softmax":
            indices += [graph.tensors[operation.output].shape[-1]]
            numbers += graph.arrays[f"{operation.path}.table"].tolist()
        elif kind in ("placeholders", "last_tokens"):
            before, after = (math.prod(graph.tensors[name].shape) for name in (operation.inputs[0], operation.output))
            count = operation.attributes.get("label", after)
            kind, indices = "part", [before - count, count]
        return kind, indices, numbers


class Step(torch.autograd.Function):
    """(plan, counts minus anchor, (windows, context), or (passes, channel, context) of several channels, where a pass
    sees all or one, codes of a forecast, the plan's parameters) -> forecasts (passes, codes), float32."""

    @staticmethod
    def forward(ctx, plan, inputs, codes, *parameters):
        inputs = inputs.contiguous()
        addresses = (ctypes.c_void_p * len(parameters))(*(p.data_ptr() for p in parameters))
        forecasts = inputs.new_empty(len(inputs), codes)
        _library().forward(plan.address, addresses, inputs.data_ptr(), len(inputs), forecasts.data_ptr())
        plan.runs += 1
        ctx.plan, ctx.run = plan, plan.runs
        ctx.save_for_backward(inputs, *parameters)
        return forecasts

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        plan, (_, *parameters) = ctx.plan, ctx.saved_tensors
        if ctx.run != plan.runs:
            raise RuntimeError(
                "this forecast's gradients are gone: the model has forecast again since; take backward() first"
            )
        gradients = g.new_empty(sum(plan.sizes))
        _library().backward(plan.address, g.contiguous().data_ptr(), gradients.data_ptr())
        parts = gradients.split(plan.sizes)
        return None, None, None, *(part.view_as(p) for part, p in zip(parts, parameters, strict=True))


class Fused(nn.Module):
    """A model, the same function of the same parameters, trained in fewer passes where it is quantised and its
    arithmetic holds still.

    While the adaptive scheme compares, where a layer does not hold still (`still`), and in anything but float32 on a
    processor, the model itself runs.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model
        modules = list(model.modules())
        self.activations = [m for m in modules if isinstance(m, ActivationQuantizer)]
        self.weights = [m for m in modules if isinstance(m, WeightQuantizer)]
        self.still = all(getattr(m, "still", True) for m in modules)
        self.plan, self.made_for = None, None

    def forward(self, inputs):
        settled = self.still and not (self.training and any(q.choosing for q in self.activations))
        if (
            not self.weights
            or not settled
            or inputs.dtype != torch.float32
            or inputs.device.type != "cpu"
            or inputs.requires_grad
        ):
            return self.model(inputs)
        wanted = [q.finer for q in self.weights] + [q.is_asymmetric() for q in self.activations]
        if self.made_for != wanted:
            self.plan, self.made_for = Plan(self.model), wanted
        config = self.model.config
        if config.channels > 1:
            inputs = inputs.transpose(1, 2).reshape(-1, config.inputs, config.context)
        forecasts = Step.apply(self.plan, inputs, config.horizon * config.outputs, *self.plan.parameters)
        return self.model.output.inner.unfolded(forecasts)


def fit(model, origin, training, validation, config, *, seed, teacher=None, loss=F.mse_loss):
    """`train.fit` of a quantised model by its QATConfig.

    origin: the float model that it was made of. teacher: what it forecasts for the training inputs, as targets.
    """
    if teacher is not None:
        training = train.Batches(training.inputs, torch.lerp(training.targets, teacher, config.distil))
    hooks = [qat.FreezeChoices(model), *(technique(model, origin) for technique in config.techniques)]
    return train.fit(Fused(model), training, validation, config, seed=seed, hooks=hooks, loss=loss)
