"""Several channels of one file, at the same times: each a Dataset of its own, windows of all together."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from qatlib.data.series import Dataset

COMMON = ("name", "times", "bounds", "step", "sha256", "note", "gaps")


@dataclass(frozen=True, eq=False)
class Recording:
    """Channels of one file, with what a Dataset has: numbers of each channel are float64 (channel,), windows have one
    more axis for the channels.

    members: a Dataset each, of the same times and splits, those that are forecast first; forecast: how many that are.
    """

    members: tuple[Dataset, ...]
    forecast: int

    def __getattr__(self, name):
        """What all members have in common."""
        if name not in COMMON:
            raise AttributeError(f"a recording of several channels has no {name}")
        return getattr(self.members[0], name)

    @property
    def names(self):
        """Of the channels."""
        return tuple(member.target for member in self.members)

    @property
    def target(self):
        """For titles."""
        read = f" (from {', '.join(self.names[self.forecast :])} too)" if self.forecast < len(self.members) else ""
        return ", ".join(self.names[: self.forecast]) + read

    @property
    def forecast_alone(self):
        """Without the channels that are only read: a Dataset, if one is left."""
        return self.members[0] if self.forecast == 1 else Recording(self.members[: self.forecast], self.forecast)

    @property
    def resolution(self):
        return np.array([member.resolution for member in self.members])

    @property
    def mean(self):
        return np.array([member.mean for member in self.members])

    @property
    def std(self):
        return np.array([member.std for member in self.members])

    @cached_property
    def fingerprint(self):
        facts = [*(member.fingerprint for member in self.members), str(self.forecast)]
        return hashlib.sha256("".join(facts).encode()).hexdigest()

    def standardise(self, values):
        """Sensor units (..., channel) -> standard deviations from the mean, both of the train rows."""
        return (values - self.mean) / self.std

    def windows(self, split, context, horizon):
        """As Dataset.windows: counts (n, context, channel), truth (n, horizon, channel)."""
        parts = [member.windows(split, context, horizon) for member in self.members]
        counts, truth = (np.stack([getattr(p, name) for p in parts], axis=-1) for name in ("counts", "truth"))
        return replace(parts[0], counts=counts, truth=truth)
