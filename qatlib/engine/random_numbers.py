"""The numbers of a random program: widths, ranges, multipliers."""

import numpy as np

from qatlib.integer_model import kernels

WIDTHS = (2, 3, 4, 5, 6, 7, 8)


class Numbers:
    """Draws them. extreme: share of numbers that saturate or vanish, at least; where there are any, many zero points
    are at an end of their range."""

    def __init__(self, rng, extreme):
        self.rng, self.extreme = rng, extreme
        self.wild = max(rng.choice([0.01, 0.03, 0.1]), extreme)  # share of numbers that are extreme
        self.same = rng.integers(2)  # one width for all tensors of a kind, as in most exports
        self.widths = {}

    def width(self, role):
        if self.same:
            return self.widths.setdefault(role, int(self.rng.choice(WIDTHS)))
        return int(self.rng.choice(WIDTHS))

    def limits(self, role):
        """(low, high, zero point) of a tensor."""
        if role == "scores":
            return -128, 127, int(self.rng.integers(-128, 128)) if self.rng.random() < self.wild else 0
        bits = self.width(role)
        low, high = kernels.code_range(
            bits, unsigned=role == "unsigned", narrow=role == "product" and kernels.is_narrow(bits)
        )
        symmetric = role in ("unsigned", "product") or self.rng.random() < 0.4
        zero_point = 0 if symmetric else int(self.rng.integers(low, high + 1))
        if zero_point and self.extreme:
            zero_point = int(self.rng.choice([low, high, zero_point]))
        return low, high, zero_point

    def multipliers(self, accumulator, reach, channels):
        """m and n, one for all or per channel, that bring the accumulator (.., channel) to codes up to about `reach`;
        some do not."""
        rng, per_channel = self.rng, channels > 1 and self.rng.random() < 0.8
        spread = np.abs(accumulator.reshape(-1, channels) if per_channel else accumulator.reshape(-1, 1)).astype(float)
        ratio = reach * 2.0 ** rng.normal(0, 1, spread.shape[1]) / np.maximum(np.quantile(spread, 0.8, axis=0), 1)
        mantissa, exponent = np.frexp(ratio)
        m, n = (mantissa * 65536).astype(np.int64), (16 - exponent).clip(1, 40)
        odd = rng.random(len(m)) < self.wild
        m[odd], n[odd] = rng.integers(1 << 15, 1 << 16, odd.sum()), rng.integers(1, 41, odd.sum())
        return m.astype(np.uint16), n.astype(np.uint8)
