"""Mixed precision: widths per tensor, searched by Optuna for validation error, bytes on the device and cycles of the
engine.

A trial is a run of the grid (see `cached`), so a search is resumed, and spread over a cluster, as a grid is. Trials are
asked for in batches of one size with a sampler seeded by their count: the same trials on every machine. A study is kept
in a journal file under build/, or in the database that STORAGE names (postgresql://..), where the next machine finds
it; one process works on a study at a time.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace

import optuna
import pandas as pd
from optuna.trial import TrialState

from qatlib.engine import DoesNotFit, compile
from qatlib.float_model import layers, transformer
from qatlib.float_model.config import ModelConfig, Sensor
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached
from qatlib.runs.cached import Run
from qatlib.studies import recipes, storage
from qatlib.studies.recipes import ENGINE

BATCH = 8
FIELDS = {"weights": "weight_bits", "activations": "activation_bits"}  # of a QuantConfig, by the kind of a tensor
EIGHT = QuantConfig(8, 8)
RECIPE = replace(recipes.RECIPE, epochs=8)  # of trials; what is chosen is trained anew by the whole recipe
WARM = (0.03, 0.1, 0.3, 1.0, 3.0)  # % of validation error that a tensor alone may cost in a warm start
FINALISTS = 4
SLACK = 1.0  # %


@dataclass(frozen=True)
class Space:
    """What is searched: shapes of the model, and the bits that its weights and matrix operands may have.

    Residual stream, positions and edges keep 8 bits: narrower ones would save next to no bytes, and no cycles.
    """

    name: str
    shapes: tuple[ModelConfig, ...]
    bits: tuple[tuple[str, tuple[int, ...]], ...]  # (kind, choices in rising order)

    def tensors(self):
        """{(path, kind): choices}, of every tensor that has a width of its own. All shapes have the same tensors."""
        choices, found = dict(self.bits), {}
        for path, module in transformer.network(self.shapes[0], Sensor(1.0, 0.0, 1.0)).named_modules():
            if isinstance(module, layers.Linear):
                found[path, "weights"] = choices["weights"]
            if isinstance(module, layers.Softmax) or getattr(module, "role", "") in ("operand", "product", "unsigned"):
                found[path, "activations"] = choices["activations"]
        return found


def mixed(experiment):
    """The default model: every tensor may have 2, 3, 4 or 8 bits."""
    return Space("mixed", (experiment.default_model,), (("weights", (2, 3, 4, 8)), ("activations", (2, 3, 4, 8))))


def small(experiment):
    """Narrower models of fewer tokens. Activations keep 8 bits: they cost no bytes."""
    context = experiment.context
    patches = [p for p in (24, 28, 42, 56) if context % p == 0] or [experiment.default_model.patch]
    shapes = [replace(experiment.default_model, patch=p, d_model=d, dropout=0.1) for p in patches for d in (4, 6, 8)]
    return Space("small", tuple(shapes), (("weights", (2, 3, 4)), ("activations", (8,))))


def run(experiment, shape, widths, seed, recipe):
    """The QAT run of a shape whose tensors have these widths, all others 8, taught by the default float models. widths:
    {(path, kind): bits}."""
    exceptions = {}
    for (path, kind), bits in widths.items():
        exceptions[path] = replace(exceptions.get(path, EIGHT), **{FIELDS[kind]: bits})
    teacher = None if shape == experiment.default_model else experiment.default_model
    recipe = recipes.shortened(experiment, recipe)
    exceptions = tuple(sorted(exceptions.items()))
    return Run(
        shape,
        "qat-mixed",
        seed,
        experiment.float_run(seed).recipe,
        EIGHT,
        recipe,
        exceptions,
        experiment.seeds,
        teacher,
    )


def cycles(run, dataset):
    """Cycles of one forecast on the engine, as the compiler predicts them exactly; infinite where the model does not
    fit."""
    try:
        return float(compile(cached.integer_model(run, dataset), ENGINE).cycles)
    except DoesNotFit:
        return math.inf


def uniform(space, weights, activations):
    """Widths of one weight and one activation width, where the space has them."""
    wanted = {"weights": weights, "activations": activations}
    return {
        (path, kind): min(choices, key=lambda b: abs(b - wanted[kind]))
        for (path, kind), choices in space.tensors().items()
    }


def sensitivities(experiment, space):
    """Change of validation error (%) when one tensor alone has fewer bits, after PTQ: path, kind, bits,
    change."""
    cells = [(*tensor, bits) for tensor, choices in space.tensors().items() for bits in choices if bits < 8]
    seed, shape = experiment.seeds[0], space.shapes[0]

    def ptq(widths):
        return replace(
            run(experiment, shape, widths, seed, RECIPE),
            method="ptq-mse",
            qat_recipe=None,
            teachers=(),
            teacher_model=None,
        )

    grid = [ptq({}), *(ptq({(path, kind): bits}) for path, kind, bits in cells)]
    errors = experiment.table(grid, "sensitivities")["mse_validation"]
    frame = pd.DataFrame(cells, columns=["path", "kind", "bits"])
    return frame.assign(change=100 * (errors[1:].to_numpy() / errors[0] - 1))


def warm_starts(space, costs):
    """Widths to begin with: uniform ones, and for each of WARM the fewest bits that cost a tensor alone no more than
    that."""
    allowed = costs.set_index(["path", "kind", "bits"])["change"].to_dict()
    starts = [uniform(space, w, a) for w, a in ((4, 4), (3, 3), (2, 4), (2, 2), (3, 8), (2, 8))]
    for limit in WARM:
        fits = {t: [b for b in choices if allowed.get((*t, b), 0) <= limit] for t, choices in space.tensors().items()}
        starts.append({t: min(fits[t], default=max(choices)) for t, choices in space.tensors().items()})
    return [dict(start) for start in dict.fromkeys(tuple(start.items()) for start in starts)]


def study(experiment, space):
    """The study of a space on these data, with this code; made where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sources = cached.source_hash(*cached.QUANT_SOURCES, "engine")
    recipes = [asdict(RECIPE), asdict(experiment.float_run(0).recipe), experiment.seeds, experiment.profile]
    identity = [asdict(space), recipes, asdict(ENGINE), experiment.dataset.fingerprint, sources]
    name = f"{space.name}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}"
    return optuna.create_study(
        study_name=name, storage=storage.opened(), directions=["minimize"] * 3, load_if_exists=True
    )


def search(experiment, space, trials):
    """Carry a study on to so many trials. -> frame: trial, model, error (% against float, validation), size_bytes,
    cycles, on_front, and the bits of every tensor."""
    current = study(experiment, space)
    if len(current.trials) < trials:
        for widths in warm_starts(space, sensitivities(experiment, space)):
            places = {shown(tensor): space.tensors()[tensor].index(bits) for tensor, bits in widths.items()}
            current.enqueue_trial(places | {"shape": 0}, skip_if_exists=True)
    while (finished := sum(t.state.is_finished() for t in current.get_trials(deepcopy=False))) < trials:
        # Those that a process had asked for which was killed.
        left = [t for t in current.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
        batch = {t.number: t.params for t in left} or _ask(current, space, min(BATCH, trials - finished))
        _tell(current, batch, experiment, space)
    return _frame(current, space)


def _ask(current, space, count):
    """Parameters are places in the lists of choices. -> {trial's number: parameters}"""
    current.sampler = optuna.samplers.TPESampler(
        seed=len(current.trials), multivariate=True, constant_liar=True, n_startup_trials=2 * BATCH
    )
    asked = {}
    for _ in range(count):
        trial = current.ask()
        for tensor, choices in space.tensors().items():
            trial.suggest_int(shown(tensor), 0, len(choices) - 1)
        trial.suggest_int("shape", 0, len(space.shapes) - 1)
        asked[trial.number] = trial.params
    return asked


def _decoded(space, parameters):
    """-> shape, {(path, kind): bits}"""
    tensors = space.tensors()
    return space.shapes[parameters["shape"]], {t: choices[parameters[shown(t)]] for t, choices in tensors.items()}


def _tell(current, batch, experiment, space):
    names = {*map(shown, space.tensors()), "shape"}
    whole = {number: p for number, p in batch.items() if p.keys() == names}
    for number in batch.keys() - whole.keys():  # killed while it was asked for
        current.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    seed = experiment.seeds[0]
    grid = [run(experiment, *_decoded(space, parameters), seed, RECIPE) for parameters in whole.values()]
    table = experiment.table(grid, f"{space.name} widths")
    reference = experiment.table([experiment.float_run(seed)])["mse_validation"][0]
    for number, trial_run, row in zip(whole, grid, table.itertuples(), strict=True):
        values = 100 * (row.mse_validation / reference - 1), row.size_bytes, cycles(trial_run, experiment.dataset)
        current.tell(number, values, skip_if_finished=True)


def shown(tensor):
    """A tensor's name: of a column, and of a parameter of Optuna's."""
    return " ".join(tensor)


def _frame(current, space):
    front = {t.number for t in current.best_trials}
    rows = []
    for trial in current.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        shape, widths = _decoded(space, trial.params)
        values = dict(zip(("error", "size_bytes", "cycles"), trial.values, strict=True))
        bits = {shown(tensor): b for tensor, b in widths.items()}
        about = {"trial": trial.number, "model": shape_name(shape), "on_front": trial.number in front}
        rows.append({**about, **values, **bits})
    columns = ["trial", "model", "error", "size_bytes", "cycles", "on_front", *map(shown, space.tensors())]
    return pd.DataFrame(rows, columns=columns).convert_dtypes().sort_values("trial", ignore_index=True)


def shape_name(shape):
    return f"d{shape.d_model}, {shape.tokens} tokens of {shape.patch}"


def finalists(frame, *, error, largest=float("inf")):
    """Trials to be trained by the whole recipe: the FINALISTS smallest with no smaller one as good, of at most so many
    bytes and so much error (%) plus SLACK, since trials train briefly. The best of all where none is that good."""
    within = frame[frame["size_bytes"] <= largest].sort_values(["size_bytes", "error"])
    best = within[within["error"] < within["error"].cummin().shift(fill_value=float("inf"))]
    good = best[best["error"] <= error + SLACK]
    return good.head(FINALISTS) if len(good) else best.tail(1)


def runs_of(experiment, space, trial):
    """The runs of a trial by the whole recipe, one a seed."""
    parameters = study(experiment, space).trials[trial].params
    return [run(experiment, *_decoded(space, parameters), seed, recipes.RECIPE) for seed in experiment.seeds]


def train(experiment, space, rows):
    """Run table of finalists over all seeds, with the columns trial and cycles."""
    cells = [(trial, r) for trial in rows["trial"] for r in runs_of(experiment, space, trial)]
    table = experiment.table([r for _, r in cells], f"{space.name} finalists")
    return table.assign(trial=[t for t, _ in cells], cycles=[cycles(r, experiment.dataset) for _, r in cells])


def chosen(table, bar):
    """The trial of the smallest size whose mean validation error is at most `bar`; where none is, the one with the
    lowest error."""
    means = table.groupby("trial")[["mse_validation", "size_bytes"]].mean()
    good = means[means["mse_validation"] <= bar]
    return good["size_bytes"].idxmin() if len(good) else means["mse_validation"].idxmin()


@dataclass(frozen=True, eq=False)
class Mixed:
    """A search for the widths of every tensor, carried through. trials: of `search`; finalists: those that the whole
    recipe trained; table: their runs; choice: the trial chosen."""

    space: Space
    trials: pd.DataFrame
    finalists: pd.DataFrame
    table: pd.DataFrame
    choice: int

    @property
    def chosen(self):
        """The run table of the choice."""
        return self.table[self.table["trial"] == self.choice]

    def run(self, experiment):
        """The choice's run of the first seed."""
        return runs_of(experiment, self.space, self.choice)[0]


def best_mixed(experiment, uniform):
    """Widths for every tensor of the default model in no more bytes than uniform 3 bit, as good as uniform 4 bit where
    any are.

    uniform: run table of `low_bits.uniform`. -> Mixed"""
    space = mixed(experiment)
    trials = search(experiment, space, 64 if experiment.full else 8)
    same_seeds = uniform[uniform["seed"].isin(experiment.seeds)].groupby("width")
    all_four = (trials[[*map(shown, space.tensors())]] == 4).all(axis=1)  # the search begins with them
    rows = finalists(trials, error=trials[all_four]["error"].iloc[0], largest=same_seeds["size_bytes"].mean()["W3A3"])
    table = train(experiment, space, rows)
    return Mixed(space, trials, rows, table, chosen(table, bar=same_seeds["mse_validation"].mean()["W4A4"]))
