"""What the notebooks run: data set, models, recipes and grids, from the parameters that every notebook has."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from qatlib.data import series, sets
from qatlib.device import replay
from qatlib.float_model import transformer
from qatlib.float_model.config import RIVALS, Sensor, decoder_config, patch_config, point_config
from qatlib.float_model.train import TrainConfig
from qatlib.quantised_model.ptq import METHODS
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quantisers import GRANULARITIES, SCHEMES, QuantConfig
from qatlib.runs import cached, scale_out
from qatlib.runs.cached import Run
from qatlib.system.profiles import SEEDS

# Chosen by validation error on ETTh1, seeds 0 to 2; of QAT recipes within 0.2 % of the best (with dropout, other
# teachers), the fastest. `skip` and `linear`: on ETTh2, where a linear map does best.
RECIPES = {
    "patch": (TrainConfig(epochs=30), QATConfig(epochs=8, learning_rate=3e-3, distil=1.0)),
    "point": (TrainConfig(epochs=10, batch=128), QATConfig(epochs=4, batch=128, learning_rate=3e-3, distil=1.0)),
    "decoder": (TrainConfig(epochs=10, batch=128), QATConfig(epochs=4, batch=128, learning_rate=3e-3, distil=1.0)),
    "skip": (TrainConfig(epochs=30), QATConfig(epochs=24, learning_rate=3e-3, distil=1.0)),
    "linear": (TrainConfig(epochs=0), QATConfig(epochs=80, learning_rate=1e-3, distil=1.0)),  # its float is closed form
    **dict.fromkeys(RIVALS, (TrainConfig(epochs=30, weight_decay=0.0), None)),
    **dict.fromkeys(("cnn", "lstm"), (TrainConfig(epochs=15, weight_decay=0.0), None)),
}
EIGHT = QuantConfig(scheme="asymmetric")
GRID_WIDTHS = ((8, 8), (6, 6), (4, 4), (3, 3), (2, 2), (2, 4))  # weights, activations
ENGINE_WIDTHS = ((8, 8), (4, 4), (2, 2))
FOUR = QuantConfig(4, 4, scheme="adaptive")
MIXED = {  # by the end of a primitive's path; all others as FOUR
    "query": replace(FOUR, weight_bits=8, activation_bits=8),
    "key": replace(FOUR, weight_bits=8, activation_bits=8),
    "value": replace(FOUR, weight_bits=8, activation_bits=8),
    "softmax": replace(FOUR, activation_bits=8),
    "feed_forward.operand": replace(FOUR, activation_bits=3),
    "widen": replace(FOUR, weight_bits=2),
    "narrow": replace(FOUR, weight_bits=2),
    "head": replace(FOUR, weight_bits=6),
}


@lru_cache(maxsize=4)
def _load(name, target, inputs, clean):
    return sets.load(name, target=target, inputs=inputs, clean=clean)


@dataclass(frozen=True)
class Experiment:
    """The parameters of a notebook. `profile` full: 5 seeds and the whole grid; quick: one seed and a small grid."""

    profile: str = "quick"
    data: str = "auto"
    target: str = ""
    clean: bool = False
    context: int = 336
    horizon: int = 24
    inputs: str = ""

    def __post_init__(self):
        if self.profile not in SEEDS:
            raise ValueError(f"unknown profile {self.profile!r}; choose quick or full")

    def on(self, name, target=""):
        """The same on another known data set."""
        return replace(self, data=name, target=target, clean=False, inputs="")

    def reaching(self, horizon):
        """The same over another horizon."""
        return replace(self, horizon=horizon)

    @property
    def full(self):
        return self.profile == "full"

    @property
    def series(self):
        """The data: a Dataset, or a Recording of several channels."""
        return _load(self.data, self.target or None, self.inputs or None, self.clean)

    @property
    def dataset(self):
        """The first channel that is forecast: what all but notebook 12 are about."""
        return getattr(self.series, "members", (self.series,))[0]

    @property
    def day(self):
        """Samples of a day, or of half a context where that is shorter: what the guard compares."""
        return max(1, min(int(np.timedelta64(1, "D") / self.dataset.step), self.context // 2))

    @property
    def seeds(self):
        return tuple(SEEDS[self.profile])

    @property
    def default_model(self):
        return patch_config(self.context, self.horizon)

    @property
    def other_models(self):
        """The published shape at two windows, and the decoder."""
        return (
            point_config(24, self.horizon),
            point_config(96, self.horizon),
            decoder_config(self.context, self.horizon),
        )

    @property
    def one_step_model(self):
        """The shape that was published on hardware (Ling, Qian & Schiele, arXiv 2407.11041): 12 samples, the next one
        as forecast."""
        return point_config(12, 1, 32)

    def windows(self, split):
        return self.dataset.windows(split, self.context, self.horizon)

    def baselines(self):
        contexts = sorted({self.context, *(m.context for m in self.other_models)})
        ridges = [Run(patch_config(c, self.horizon), "ridge") for c in contexts]
        return [Run(self.default_model, "persistence"), Run(self.default_model, "seasonal"), *ridges]

    def float_run(self, seed, model=None):
        model = model or self.default_model
        return Run(model, "float", seed, RECIPES[model.family][0])

    def floats(self, *model_configs):
        return [
            self.float_run(seed, m)
            for m in model_configs or (self.default_model, *self.other_models)
            for seed in self.seeds
        ]

    def ptq(self):
        """Default model x methods x granularities x widths x seeds; residual stream and edges at 8 bit."""
        widths = [w for w in GRID_WIDTHS if w[0] == w[1]] if self.full else [(8, 8), (4, 4), (2, 2)]
        return [
            Run(
                self.default_model,
                f"ptq-{method}",
                seed,
                RECIPES["patch"][0],
                QuantConfig(w, a, scheme="asymmetric", granularity=granularity),
            )
            for method in METHODS
            for granularity in GRANULARITIES
            for w, a in widths
            for seed in self.seeds
        ]

    def all_eight(self):
        """The default model by PTQ (MSE), everything at 8 bit, a run a seed."""
        return [Run(self.default_model, "ptq-mse", seed, RECIPES["patch"][0], EIGHT) for seed in self.seeds]

    def one_tensor_low(self, path, kind):
        """The same with one tensor at 4 bit: the weights or the activations of the primitive at this path."""
        if kind == "weights":
            low = replace(EIGHT, weight_bits=4)
        elif path.endswith("operand"):  # narrows a wider stream
            low = replace(EIGHT, activation_bits=4)
        else:
            low = replace(EIGHT, activation_bits=4, residual_bits=4, edge_bits=4)
        return [replace(run, exceptions=((path, low),)) for run in self.all_eight()]

    def qat(self):
        """Default model x schemes x widths x seeds, the other models at 8 and 4 bit; residual stream and edges at 8
        bit."""
        widths = GRID_WIDTHS if self.full else ((8, 8), (4, 4), (2, 2), (2, 4))
        schemes = SCHEMES if self.full else ("symmetric", "asymmetric")
        grid = [(self.default_model, s, w) for s in schemes for w in widths]
        others = self.other_models if self.full else self.other_models[:1]
        grid += [(m, "symmetric", w) for m in others for w in ((8, 8), (4, 4))]
        return [self._qat_run(*cell, seed) for cell in grid for seed in self.seeds]

    def one_step(self):
        """Baselines, float and QAT runs of the one-step model; apart, since an error one step ahead is another one than
        `horizon` ahead."""
        model = self.one_step_model
        baselines = [Run(model, method) for method in ("persistence", "ridge")]
        quantised = [self._qat_run(model, "symmetric", w, seed) for w in ((8, 8), (4, 4)) for seed in self.seeds]
        return [*baselines, *self.floats(model), *quantised]

    def engine_runs(self):
        """{name: run} of the models that the engine runs: the first seed of every model at three widths and at mixed
        ones."""
        named = {}
        for model in (self.default_model, *self.other_models, self.one_step_model):
            scheme = "asymmetric" if model == self.default_model else "symmetric"
            for w, a in ENGINE_WIDTHS:
                named[f"{model.name}-w{w}a{a}"] = self._qat_run(model, scheme, (w, a), self.seeds[0])
            named[f"{model.name}-mixed"] = self._mixed_run(model)
        return named

    def replay(self, most=None):
        """What the overlay's notebook plays: the default model at the engine's widths, and the last test windows that
        no gap parts."""
        named = {n: r for n, r in self.engine_runs().items() if r.model == self.default_model and not r.exceptions}
        self.table(named.values(), "models")
        trained = replay.by_width({name: cached.integer_model(run, self.dataset) for name, run in named.items()})
        title = ", ".join(filter(None, (self.dataset.name, self.dataset.target, self.dataset.note)))
        return replay.Replay(title, trained, *self.last_counts(most or (512 if self.full else 256)))

    def last_counts(self, most):
        """The last test windows, each a sample after the one before: int16 counts (n, context), and what followed, (n,
        horizon)."""
        windows, dataset = self.windows("test"), self.dataset
        breaks = np.flatnonzero(np.diff(windows.rows) != 1) + 1
        first = max([0, len(windows.rows) - most, *breaks])
        rows = windows.rows[first:, None] + np.arange(self.horizon)
        return windows.counts[first:], series.to_counts(dataset.values, dataset.resolution)[rows]

    def _mixed_run(self, model):
        primitives = [path for path, _ in transformer.network(model, Sensor(1.0, 0.0, 1.0)).named_modules()]
        exceptions = tuple(
            (p, config) for p in primitives for end, config in MIXED.items() if f".{p}".endswith(f".{end}")
        )
        recipe, qat_recipe = RECIPES[model.family]
        return Run(model, "qat-adaptive", self.seeds[0], recipe, FOUR, qat_recipe, exceptions)

    def _qat_run(self, model, scheme, widths, seed):
        recipe, qat_recipe = RECIPES[model.family]
        return Run(model, f"qat-{scheme}", seed, recipe, QuantConfig(*widths, scheme=scheme), qat_recipe)

    def quantised_run(self, *, weight_bits, activation_bits):
        """The first seed's QAT run of the default model at these widths, activations asymmetric."""
        return self._qat_run(self.default_model, "asymmetric", (weight_bits, activation_bits), self.seeds[0])

    @property
    def has_published_errors(self):
        """Whether data, target and horizon are those of the published tables."""
        return (self.dataset.name, self.dataset.target, self.horizon) == ("etth1", "OT", 24)

    def all_runs(self):
        return [*self.baselines(), *self.floats(), *self.ptq(), *self.qat(), *(self.one_step() if self.full else [])]

    def table(self, grid, name="runs", series=None):
        """`scale_out.collect` on this data set, or on these series."""
        return scale_out.collect(grid, series or self.dataset, name=name)
