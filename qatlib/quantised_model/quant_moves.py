"""The twins of primitives without arithmetic: their codes are moved, or handed out."""

from torch import nn

from qatlib.float_model import layers
from qatlib.integer_model.program import Tensor

MOVES = {layers.Reshape: "reshape", layers.Placeholders: "placeholders", layers.LastTokens: "last_tokens"}


class QuantRearrange(nn.Module):
    """Reshape, placeholders (code = zero point) and last tokens move codes and change none."""

    path = ""

    @classmethod
    def from_float(cls, module, config):
        new = cls()
        new.inner = module
        new.kind = MOVES[type(module)]
        return new

    def forward(self, x):
        codes = x.with_values(self.inner(x.values))
        if x.graph is None:
            return codes
        source = x.graph.tensors[x.tensor]
        tensor = Tensor(tuple(codes.values.shape[1:]), source.low, source.high, source.zero_point)
        attributes = {"label": self.inner.label} if self.kind == "placeholders" else {}
        return x.graph.record(self.kind, self.path, [x], codes, tensor, **attributes)


class QuantOutput(nn.Module):
    """Output codes -> standardised change from the anchor."""

    path = ""

    @classmethod
    def from_float(cls, module, config):
        new = cls()
        new.inner = module
        return new

    def forward(self, x):
        return self.inner(x.values * x.step)
