"""Random programs of the three families' shapes, and windows that go to the edges: what the simulated hardware is
compared with NumPy on.

Widths, zero points, multipliers and biases are drawn for every tensor, most of them so that codes spread over their
range (found by carrying each operation out on a few windows), some so that everything saturates or vanishes.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from qatlib.engine.random_numbers import Numbers
from qatlib.integer_model import kernels
from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import Channel, Operation, Tensor, pack

FAMILIES = ("patch", "point", "decoder")


@dataclass(frozen=True)
class Shape:
    """Of a model. patch: samples of a token; factor: width of the feed-forward layer over d_model; label: the decoder's
    look-back; extreme: see Numbers; targets: where there are any, the channels are mixed and these are forecast."""

    family: str
    tokens: int
    patch: int
    horizon: int
    d_model: int
    heads: int = 1
    layers: int = 1
    factor: int = 4
    label: int = 1
    extreme: float = 0
    channels: int = 1
    targets: tuple = ()

    @property
    def context(self):
        return self.tokens * self.patch

    @property
    def inputs(self):
        """Channels that the network sees at once."""
        return self.channels if self.targets else 1


def random_shape(rng):
    """-> Shape, small enough for most configurations."""
    family, d_model = str(rng.choice(FAMILIES)), int(rng.choice([5, 6, 8, 12, 16, 20, 32, 33]))
    patch = 1 if family == "point" else int(rng.integers(1, 26))
    tokens = int(rng.choice([1 + (patch == 1), rng.integers(2, 12), rng.integers(2, 40)]))
    heads = int(rng.choice([h for h in (1, 2, 3, 4) if d_model % h == 0]))
    layers, label = int(rng.choice([1, 1, 2, 3])), int(rng.integers(1, min(tokens * patch, 24) + 1))
    horizon, extreme = (
        int(rng.choice([1, *rng.integers(1, 28, 14), rng.integers(28, 129)])),
        float(rng.choice([0] * 9 + [0.1] * 5 + [0.3, 1])),
    )
    shape = Shape(family, tokens, patch, horizon, d_model, heads, layers, int(rng.integers(1, 5)), label, extreme)
    return _with_channels(rng.spawn(1)[0], shape)


def _with_channels(rng, shape):
    """Half of the shapes with several channels, mixed where the family can; windows and forecasts are then shorter."""
    if rng.random() < 0.5:
        return shape
    channels = int(rng.integers(2, 8))
    if shape.family == "decoder" or rng.random() < 0.3:
        return replace(shape, channels=min(channels, 3))
    targets = sorted(rng.choice(channels, rng.integers(1, channels + 1), replace=False).tolist())
    patch, horizon = -(-shape.patch // channels), -(-shape.horizon // len(targets))
    return replace(shape, patch=patch, horizon=horizon, channels=channels, targets=tuple(targets))


def random_model(seed, shape=None):
    """-> IntegerModel of that Shape, or of a random one. The same seed gives the same model."""
    rng = np.random.default_rng(seed)
    return _Builder(rng, shape or random_shape(rng)).model(f"random-{seed}")


def extreme_windows(model, seed, n):
    """int16 windows: noise over the whole range, walks, constants, alternations, ramps, spikes, in turns; of several
    channels each another."""
    return _windows(np.random.default_rng(seed), model.context, len(model.channels), n).reshape(n, *model.window_shape)


def _windows(rng, context, channels, n):
    return np.stack([_windows_of_one(rng, context, range(i, i + n)) for i in range(channels)], axis=-1)


def _windows_of_one(rng, context, turns):
    low, high = kernels.COUNT_MIN, kernels.COUNT_MAX
    time = np.arange(context)

    def level():
        return rng.choice([low, -1, 0, 1, high, rng.integers(low, high + 1)])

    def walk():
        return level() + rng.normal(0, 2.0 ** rng.integers(0, 13), context).cumsum()

    kinds = (
        walk,
        lambda: rng.integers(low, high + 1, context),
        lambda: np.full(context, level()),
        lambda: np.where(time % rng.integers(2, 4) == 0, level(), level()),
        lambda: np.linspace(level(), level(), context),
        lambda: np.where(time == rng.integers(context), level(), level()),
    )
    return np.array([kinds[i % len(kinds)]() for i in turns]).clip(low, high).astype(np.int16)


@dataclass
class _Builder:
    """Writes a program down operation by operation, as `quant_layers.Graph` does. codes: {tensor: (window, ..)} on a
    few windows."""

    rng: np.random.Generator
    shape: Shape
    operations: list = field(default_factory=list)
    tensors: dict = field(default_factory=dict)
    arrays: dict = field(default_factory=dict)
    codes: dict = field(default_factory=dict)

    def model(self, name):
        rng, shape, family = self.rng, self.shape, self.shape.family
        self.numbers, (low, high) = Numbers(rng, shape.extreme), (kernels.COUNT_MIN, kernels.COUNT_MAX)
        anchors = [rng.choice([None, None, int(rng.integers(low, high + 1))]) for _ in range(shape.channels)]
        counts = _windows(rng, shape.context, shape.channels, 12).astype(np.int64)
        constants = np.array([np.nan if a is None else a for a in anchors])
        self._source(counts - np.where(np.isnan(constants), counts[:, -1:], constants).astype(np.int64))
        x = self._tokens("tokens", "source", shape.patch)
        for i in range(shape.layers):
            x = self._layer(f"encoder.{i}", x)
        head = self._decoder(x) if family == "decoder" else self._gather(x, family)
        self._linear("head", head, 1 if family == "decoder" else shape.horizon * max(1, len(shape.targets)), "edge")
        self._output()
        targets = shape.targets or tuple(range(shape.channels))
        channels, operations = tuple(Channel(f"channel-{i}", 0.5, a) for i, a in enumerate(anchors)), self.operations
        facts = name, shape.context, shape.horizon, channels, tuple(operations), self.tensors, self.arrays
        return IntegerModel(*facts, mode="mixed" if shape.targets else "independent", targets=targets)

    # ---- The network

    def _source(self, difference):
        """difference: (window, context, channel). Independent channels go on as windows of their own."""
        low, high, zero_point = limits = self.numbers.limits("edge")
        m, n = self.numbers.multipliers(difference, (high - low + 1) / 2, self.shape.channels)
        codes = kernels.requantise(difference, m, n, zero_point, low, high)
        codes = codes if self.shape.targets else codes.swapaxes(1, 2).reshape(-1, self.shape.context, 1)
        self._record("quantise", "source", [], codes, limits, {"m": m, "n": n}, {})

    def _output(self):
        difference, shape = self.codes["head"] - self.tensors["head"].zero_point, self.shape
        targets = len(shape.targets) or shape.channels
        if not shape.targets:
            difference = difference.reshape(-1, targets, shape.horizon).swapaxes(1, 2)
        m, n = self.numbers.multipliers(difference, 4.0 ** self.rng.integers(2, 9), targets)
        self.operations.append(Operation("output", "output", ("head",), "output"))
        self.arrays |= {"output.m": m, "output.n": n}

    def _tokens(self, path, samples, patch):
        codes = self.codes[samples]
        self._moved("reshape", f"{path}.patches", samples, codes.reshape(len(codes), -1, patch * self.shape.inputs))
        x = self._linear(f"{path}.embed", f"{path}.patches", self.shape.d_model, "residual")
        bits = self.numbers.width("position")
        position = self.rng.integers(*kernels.code_range(bits), self.codes[x].shape[1:], endpoint=True)
        return self._added(
            "add_position", f"{path}.position", [x], position, {"position": pack(position, bits)}, position_bits=bits
        )

    def _layer(self, path, x, memory=None):
        x = self._residual(f"{path}.norm_attention", x, self._attention(f"{path}.attention", x, x))
        if memory:
            x = self._residual(f"{path}.norm_cross", x, self._attention(f"{path}.cross", x, memory))
        y = self._operand(f"{path}.feed_forward.operand", x)
        y = self._linear(f"{path}.feed_forward.widen", y, self.shape.factor * self.shape.d_model, "unsigned")
        y = self._linear(f"{path}.feed_forward.narrow", y, self.shape.d_model, "residual")
        return self._residual(f"{path}.norm_feed_forward", x, y)

    def _attention(self, path, x, memory):
        d, heads = self.shape.d_model, self.shape.heads
        same, x = x == memory, self._operand(f"{path}.operand", x)
        memory = x if same else self._operand(f"{path}.memory_operand", memory)
        q, k = self._linear(f"{path}.query", x, d, "product"), self._linear(f"{path}.key", memory, d, "product")
        accumulator = kernels.scores(self.codes[q], self.codes[k], heads)
        s = self._requantised("scores", f"{path}.scores", [q, k], accumulator, "scores", 1, heads=heads)
        p = self._softmax(f"{path}.softmax", s)
        v = self._linear(f"{path}.value", memory, d, "product")
        accumulator = kernels.context(self.codes[p], self.codes[v], heads)
        c = self._requantised("context", f"{path}.context", [p, v], accumulator, "operand", 1, heads=heads)
        return self._linear(f"{path}.out", c, d, "residual")

    def _decoder(self, memory):
        samples, zero_point = self.codes["source"], self.tensors["source"].zero_point
        label, horizon = self.shape.label, self.shape.horizon
        codes = np.pad(samples[:, -label:], ((0, 0), (0, horizon), (0, 0)), constant_values=zero_point)
        self._moved("placeholders", "placeholders", "source", codes, label=label)
        x = self._tokens("decoder_tokens", "placeholders", 1)
        for i in range(self.shape.layers):
            x = self._layer(f"decoder.{i}", x, memory)
        x = self._operand("operand", x)
        return self._moved("last_tokens", "gather", x, self.codes[x][:, -horizon:])

    def _gather(self, x, family):
        if family == "point":
            accumulator = kernels.pool(self.codes[x], self.tensors[x].zero_point)
            return self._requantised("pool", "gather", [x], accumulator, "operand", 1)
        x = self._operand("operand", x)
        return self._moved("reshape", "gather", x, self.codes[x].reshape(len(self.codes[x]), 1, -1))

    # ---- Its primitives: each records an operation and returns the name of its tensor

    def _record(self, kind, path, inputs, codes, limits, arrays, attributes):
        self.operations.append(Operation(kind, path, tuple(inputs), path, attributes))
        self.tensors[path] = Tensor(codes.shape[1:], *limits)
        self.arrays |= {f"{path}.{name}": array for name, array in arrays.items()}
        self.codes[path] = codes
        return path

    def _moved(self, kind, path, x, codes, **attributes):
        t = self.tensors[x]
        return self._record(kind, path, [x], codes, (t.low, t.high, t.zero_point), {}, attributes)

    def _requantised(self, kind, path, inputs, accumulator, role, channels, arrays=None, **attributes):
        low, high, zero_point = limits = self.numbers.limits(role)
        m, n = self.numbers.multipliers(accumulator, (high - low + 1) / 2, channels)
        codes = kernels.requantise(accumulator, m, n, zero_point, low, high)
        return self._record(kind, path, inputs, codes, limits, {"m": m, "n": n, **(arrays or {})}, attributes)

    def _operand(self, path, x):
        """Most streams are narrowed; where they are not, matrix products take the stream itself."""
        if self.rng.random() < 0.25:
            return x
        return self._requantised("requantise", path, [x], self.codes[x] - self.tensors[x].zero_point, "operand", 1)

    def _linear(self, path, x, outs, role):
        rng, t, bits = self.rng, self.tensors[x], self.numbers.width("weight")
        low, high = kernels.code_range(bits, narrow=kernels.is_narrow(bits))
        weight = rng.integers(low, high + 1, (outs, t.shape[1]))
        weight[rng.random(outs) < self.numbers.wild] = rng.choice([low, high])
        while (most := np.abs(weight).sum(1) * t.reach).max() >= kernels.ACCUMULATOR_LIMIT:
            weight = weight // 2
        products = kernels.linear(self.codes[x] - t.zero_point, weight, 0).reshape(-1, outs)
        room = kernels.ACCUMULATOR_LIMIT - 1 - most
        bias = rng.normal(-products.mean(0), products.std(0) / 2).astype(np.int64)
        bias = np.where(rng.random(outs) < self.numbers.wild, room * rng.choice([-1, 1], outs), bias.clip(-room, room))
        bias -= t.zero_point * weight.sum(1)
        arrays = {"weight": pack(weight, bits), "bias": bias.astype(np.int32)}
        accumulator = kernels.linear(self.codes[x], weight, bias)
        return self._requantised("linear", path, [x], accumulator, role, outs, arrays, weight_bits=bits)

    def _softmax(self, path, scores):
        limits = _, high, _ = self.numbers.limits("unsigned")
        keys = self.codes[scores].shape[-1]
        numerator, k = kernels.softmax_constants(2.0 ** self.rng.uniform(-2, 1) / high / keys ** self.rng.uniform(0, 1))
        table = kernels.softmax_table(self.rng.integers(3, 7))
        if self.rng.random() < self.numbers.wild:
            table[1:], numerator, k = (
                self.rng.integers(0, 256, 255),
                self.rng.integers(255 << 17),
                self.rng.integers(1, 25),
            )
        codes = kernels.softmax(self.codes[scores], table, numerator, k, high)
        arrays = {"table": table, "numerator": np.array([numerator], np.uint32), "k": np.array([k], np.uint8)}
        return self._record("softmax", path, [scores], codes, limits, arrays, {})

    def _residual(self, path, x, y):
        inputs = [x, y] if self.rng.random() < 0.8 else [y, x]
        return self._added("add", path, inputs, self.codes[inputs[1]], {})

    def _added(self, kind, path, inputs, second, arrays, **attributes):
        """m1, m2 and c of the size that the widths need, or anything that 32 bits can hold."""
        rng, d, first, limits = self.rng, self.shape.d_model, self.codes[inputs[0]], self.numbers.limits("residual")
        m1, m2 = rng.integers(-65535, 65536, (2, d)) >> rng.integers(0, 3, (2, d))
        total = (m1 * first + m2 * second).reshape(-1, d)
        n = np.rint(np.log2(4 * total.std(0) / (limits[1] - limits[0] + 1) + 1)).astype(np.int64).clip(1, 30)
        c = (1 << (n - 1)) - total.mean(0).astype(np.int64)
        odd = rng.random(d) < self.numbers.wild
        n[odd] = rng.integers(1, 31, odd.sum())
        for m in (m1, m2):
            m[odd] = rng.choice([-65535, -1, 0, 1, 65535, rng.integers(-65535, 65536)], odd.sum())
        room = (1 << 31) - 1 - 255 * (np.abs(m1) + np.abs(m2))
        c = np.where(odd, (room * rng.choice([-1, -0.01, 0, 0.01, 1], d)).astype(np.int64), c).clip(-room, room)
        codes = kernels.add(first, second, m1, m2, c, n, limits[2], *limits[:2])
        arrays = arrays | {
            "m1": m1.astype(np.int32),
            "m2": m2.astype(np.int32),
            "c": c.astype(np.int32),
            "n": n.astype(np.uint8),
        }
        return self._record(kind, path, inputs, codes, limits, arrays, attributes)
