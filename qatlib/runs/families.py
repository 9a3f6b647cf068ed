"""Which family forecasts a sensor best, at how many bytes: linear maps, Transformers, and both together.

Everything is chosen by validation error: rank and reach of the linear map, the encoder that is added to it, and in the
end the family, by its integers of 4 bits.
"""

from dataclasses import dataclass, replace

import pandas as pd

from qatlib.float_model.config import RIVALS, ModelConfig, linear_config, patch_config, rival_config
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import experiment as experiments
from qatlib.runs.cached import Run
from qatlib.runs.comparison import final_error

RANKS = (2, 3, 4, 5, 6, 8, 12, 24)
REACHES = (1, 1 / 2, 2 / 7)  # parts of the context: of 336 samples 336, 168 and 96
LONG = 48  # samples of a horizon from which on an encoder's head is of low rank
HEAD_RANK = 8
RATES = {"skip": (1e-3, 5e-3), "cnn": (1e-3, 5e-3, 2e-2), "lstm": (1e-3, 5e-3, 2e-2)}  # learning rates that are tried
RATES |= dict.fromkeys(("nlinear", "dlinear", "sparsetsf", "fits"), (5e-3, 2e-2, 8e-2))
FOUR = QuantConfig(4, 4, scheme="asymmetric")
CLOSE = 1.002  # times the lowest error on validation: as good, where fewer numbers do
WITHIN = 1.01  # times the best linear map's error: what the smallest model may have


@dataclass(frozen=True)
class Choice:
    """What to use: a model, its integers over the seeds as a run table, and why."""

    model: ModelConfig
    table: pd.DataFrame
    reason: str

    @property
    def size_bytes(self):
        return int(self.table["size_bytes"].iloc[0])


class Families:
    """An experiment's families, as run tables: `linear`, `tried` (at every learning rate, by the first seed), `rivals`
    and `encoders` of float models, `integers` of what is left after validation.

    whole: at 8 bits too, with the published float models and every encoder; else at 4 bits, without them, and the
    narrow encoder beside a linear map alone. encoders: without them linear maps remain. mode: `univariate`, the first
    channel that is forecast; of a Recording all of these, `independent`, or all that are read, `mixed`. seeds: all
    of the experiment's where none are given."""

    def __init__(self, experiment, *, whole=True, encoders=True, mode="univariate", seeds=None):
        self.experiment, self.whole, self.seeds = experiment, whole, tuple(seeds or experiment.seeds)
        self.mode, series = mode, experiment.dataset if mode == "univariate" else experiment.series
        self.series = series.forecast_alone if mode == "independent" else series
        self.shape = {"channels": len(getattr(self.series, "members", (series,)))}
        if mode == "mixed":
            self.shape |= {"mode": mode, "targets": tuple(range(series.forecast))}
        self.models, self.recipes = {}, {}  # by name: all there are, and how those of several learning rates train best
        self.linear = self._table(self._linear(), "linear maps")
        self.best_linear = self._best(self.linear)
        self.lean_linear = self._lean(self.linear)
        rivals, skips = list(self._rivals()) if whole else [], list(self._skips()) if encoders else []
        self.tried = self._tried([*rivals, *skips], "float models")
        self.rivals = self._table((self._float(model, seed) for model in rivals for seed in self.seeds), "rivals")
        patches = [self._patch()] * whole
        runs = [self._float(model, seed) for model in patches for seed in self.seeds]
        self.encoders = self._table(runs + [self._float(model, self.seeds[0]) for model in skips], "encoders")
        beside = self.encoders[self.encoders["family"] == "skip"]
        self.finalists = [*patches, *([self._lean(beside)] if encoders else []), self.lean_linear]
        widths = (experiments.EIGHT, FOUR) if whole else (FOUR,)
        runs = [run for model in self.finalists for width in widths for run in self.runs_of_width(model, width)]
        runs += [run for model in self._smaller() if whole for run in self.runs_of_width(model, FOUR)]
        self.integers = self._table(runs, "integers")

    # -- Runs

    def _linear(self):
        context, horizon = self.experiment.context, self.experiment.horizon
        for reach in self._reaches():
            for rank in sorted({min(rank, reach, horizon) for rank in self._ranks()}):
                yield self._float(linear_config(context, horizon, rank, reach, **self.shape), 0)

    def _ranks(self):
        return RANKS if self.experiment.full else RANKS[1::2] if self.whole else RANKS[3:4]

    def _reaches(self):
        """The shortest alone of mixed channels, which have enough samples there."""
        every = (self.experiment.full or self.whole) and self.mode != "mixed"
        return sorted({max(1, round(part * self.experiment.context)) for part in REACHES})[: None if every else 1]

    def _rivals(self):
        """The published models."""
        context, horizon = self.experiment.context, self.experiment.horizon
        whole_days = context % 24 == horizon % 24 == 0  # SparseTSF takes nothing else
        families = [family for family in RIVALS if whole_days or family != "sparsetsf"]
        return [rival_config(family, context, horizon, **self.shape) for family in families]

    def _tried(self, models, name):
        """Run table of float models by the first seed, at every learning rate; the best rate becomes the model's."""
        every = self.experiment.full and self.whole
        rates = {m.name: RATES[m.family] if every else RATES[m.family][1:2] for m in models}
        runs = [
            Run(m, "float", self.seeds[0], replace(self._shortened(m.family, 0), learning_rate=rate))
            for m in models
            for rate in rates[m.name]
        ]
        table = self._table(runs, name)
        best = table.groupby("model", sort=False)["mse_validation"].idxmin()
        self.recipes |= {runs[i].model.name: runs[i].recipe for i in best}
        return table

    def _shortened(self, family, which):
        """A family's recipe, of float training or QAT; a third of its epochs in the quick profile, and of more than
        three channels, which take longer."""
        recipe = experiments.RECIPES[family][which]
        thirds = (not self.experiment.full) + (self.shape["channels"] > 3)
        return replace(recipe, epochs=-(-recipe.epochs // 3**thirds))

    def _patch(self, **shape):
        experiment = self.experiment
        head_rank = HEAD_RANK if experiment.horizon > LONG else 0
        return patch_config(experiment.context, experiment.horizon, head_rank=head_rank, **self.shape, **shape)

    def _skips(self):
        """Encoders of the default width and half of it, beside a linear map of the lean one's rank."""
        every = self.whole and self.experiment.full
        for reach in self._reaches() if every else [self.lean_linear.reach]:
            for d_model in (16, 8) if every else [8]:
                rank = min(self.lean_linear.rank, reach * self.lean_linear.inputs)
                yield replace(self._patch(d_model=d_model), family="skip", rank=rank, reach=reach)

    def _smaller(self):
        """Linear maps of lower rank than the lean one."""
        return [replace(self.lean_linear, rank=rank) for rank in self._ranks() if rank < self.lean_linear.rank]

    def _float(self, model, seed):
        return Run(model, "float", seed, self.recipes.get(model.name) or self._shortened(model.family, 0))

    def runs_of_width(self, model, width):
        """A model's QAT runs at a width, one a seed (of encoders of several channels, which take longer, the first
        alone); they learn the mean forecast of the float models of these seeds."""
        seeds = self.seeds if model.family == "linear" or self.shape["channels"] == 1 else self.seeds[:1]
        teachers = () if model.family == "linear" else seeds  # which has one float model alone
        for seed in seeds:
            trained = self._float(model, seed).recipe
            qat_recipe = self._shortened(model.family, 1)
            yield Run(model, f"qat-{width.scheme}", seed, trained, width, qat_recipe, teachers=teachers)

    def _table(self, runs, name):
        runs = list(runs)
        if not runs:
            return self.linear[:0]
        self.models |= {run.model.name: run.model for run in runs}
        table = self.experiment.table(runs, name, self.series)
        return table.assign(
            channels=self.shape["channels"],
            channel_mode=self.mode,
            family=[run.model.family for run in runs],
            rate=[run.recipe.learning_rate for run in runs],
            width=[run.quantization.label if run.quantization else "float" for run in runs],
            horizon=self.experiment.horizon,
            context=self.experiment.context,
        )

    # -- What validation chooses

    def _best(self, table):
        """The model with the lowest mean validation error over its seeds."""
        return self.models[table.groupby("model")["mse_validation"].mean().idxmin()]

    def _lean(self, table):
        """The model of the fewest numbers that is CLOSE to the best."""
        good = table[table["mse_validation"] <= CLOSE * table["mse_validation"].min()]
        return self.models[good.sort_values("n_params")["model"].iloc[0]]

    def of(self, model, bits):
        """The rows of its integers at a width."""
        rows = self.integers
        return rows[(rows["model"] == model.name) & (rows["weight_bits"] == bits)]

    def chosen(self, bits=4):
        """The family to use at a width: the one whose integers have the lowest mean error on validation."""
        errors = {model.name: self.of(model, bits)["mse_validation"].mean() for model in self.finalists}
        ranked = sorted(errors, key=errors.get)
        best, *others = ranked
        table = self.of(self.models[best], bits)
        rest = ", ".join(f"{name} {errors[name]:.4f}" for name in others[:2])
        return Choice(self.models[best], table, f"lowest error on validation, {errors[best]:.4f}; {rest}")

    def smallest(self):
        """The smallest integers whose error on validation is within WITHIN of the best linear map's in float."""
        bar = WITHIN * self.linear["mse_validation"].min()
        means = self.integers.groupby(["model", "weight_bits"])[["mse_validation", "size_bytes"]].mean().reset_index()
        good = means[means["mse_validation"] <= bar]
        found = (good if len(good) else means.nsmallest(1, "mse_validation")).sort_values("size_bytes").iloc[0]
        table = self.of(self.models[found["model"]], found["weight_bits"])
        errors = f"{found['mse_validation']:.4f} on validation, the best linear map in float {bar / WITHIN:.4f}"
        return Choice(self.models[found["model"]], table, errors)

    def best_float(self):
        """The float model with the lowest mean validation error of all."""
        table = pd.concat([self.linear, self.encoders, self.rivals])
        best = self._best(table)
        rows = table[table["model"] == best.name]
        return Choice(best, rows, f"lowest error on validation in float, {rows['mse_validation'].mean():.4f}")

    def against_float(self, choice):
        """Change of a choice's test error against the float models of its seeds, in %, as a Series."""
        runs = [self._float(choice.model, seed) for seed in choice.table["seed"]]
        own = self.experiment.table(runs, "own float models", self.series)["mse"]
        return 100 * (final_error(choice.table) / own.to_numpy() - 1)

    def against_linear(self, table):
        """Mean change of a run table's test error against the best linear map in float, in %."""
        base = self.linear.loc[self.linear["model"] == self.best_linear.name, "mse"].iloc[0]
        return 100 * (final_error(table) / base - 1)
