"""Mixed precision: widths per tensor, searched by Optuna for validation error, bytes on the device and cycles of the
engine.

A trial is a run of the grid (see `runs`), so a search is resumed, and spread over a cluster, as a grid is. Trials are
asked for in batches of one size with a sampler seeded by their count: the same trials on every machine. A study is kept
in a journal file under build/, or in the database that STORAGE names (postgresql://..), where the next machine finds
it; one process works on a study at a time.
"""

import hashlib
import json
import math
import os
import re
from dataclasses import asdict, dataclass, replace
from urllib.parse import parse_qsl, quote, unquote_plus

import optuna
import pandas as pd
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from qatlib.engine import CONFIGS, DoesNotFit, compile
from qatlib.float_model import layers, transformer
from qatlib.float_model.config import ModelConfig, Sensor
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached
from qatlib.runs.cached import Run
from qatlib.studies import recipes
from qatlib.system import paths
from qatlib.system.console import plain

VARIABLE = "STORAGE"  # environment: the URL of a database for studies
HARMLESS = {"host", "hostaddr", "port", "sslmode", "connect_timeout"}  # of a URL's query: may be shown
BATCH = 8
ENGINE = CONFIGS["xc7s15"]
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
        """{name: choices}, of every tensor that has a width of its own. All shapes have the same tensors."""
        choices, found = dict(self.bits), {}
        for path, module in transformer.Forecaster(self.shapes[0], Sensor(1.0, 0.0, 1.0)).named_modules():
            if isinstance(module, layers.Linear):
                found[f"{path} weights"] = choices["weights"]
            if isinstance(module, layers.Softmax) or getattr(module, "role", "") in ("operand", "product", "unsigned"):
                found[f"{path} activations"] = choices["activations"]
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
    """The QAT run of a shape whose tensors have these widths ({name: bits}; all others 8), taught by the default float
    models."""
    fields = {"weights": "weight_bits", "activations": "activation_bits"}
    exceptions = {}
    for name, bits in widths.items():
        path, kind = name.rsplit(" ", 1)
        exceptions[path] = replace(exceptions.get(path, EIGHT), **{fields[kind]: bits})
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
        name: min(choices, key=lambda b: abs(b - wanted[name.rsplit(" ", 1)[1]]))
        for name, choices in space.tensors().items()
    }


def sensitivities(experiment, space):
    """Change of validation error (%) when one tensor alone has fewer bits, after PTQ: tensor, bits, change."""
    cells = [(name, bits) for name, choices in space.tensors().items() for bits in choices if bits < 8]
    seed, shape = experiment.seeds[0], space.shapes[0]

    def ptq(widths):
        return replace(
            run(experiment, shape, widths, seed, RECIPE),
            method="ptq-mse",
            qat_recipe=None,
            teachers=(),
            teacher_model=None,
        )

    table = experiment.table([ptq({}), *(ptq({name: bits}) for name, bits in cells)], "sensitivities")["mse_validation"]
    frame = pd.DataFrame(cells, columns=["tensor", "bits"])
    return frame.assign(change=100 * (table[1:].to_numpy() / table[0] - 1))


def warm_starts(space, costs):
    """Widths to begin with: uniform ones, and for each of WARM the fewest bits that cost a tensor alone no more than
    that."""
    allowed = costs.set_index(["tensor", "bits"])["change"].to_dict()
    starts = [uniform(space, w, a) for w, a in ((4, 4), (3, 3), (2, 4), (2, 2), (3, 8), (2, 8))]
    for limit in WARM:
        fits = {n: [b for b in choices if allowed.get((n, b), 0) <= limit] for n, choices in space.tensors().items()}
        starts.append({n: min(fits[n], default=max(choices)) for n, choices in space.tensors().items()})
    return [dict(start) for start in dict.fromkeys(tuple(start.items()) for start in starts)]


def _parts(url):
    """Its parts; None where it is no URL, or one in whose host a part of a password with an unescaped @ may stand."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        return None
    return parts if re.fullmatch(r"[\w.:-]*", parts.host or "") else None


def _shown(parts):
    """A URL without what may be secret: scheme, host and port."""
    if parts is None:
        return "(no URL as in postgresql://user:password@host/name, what is special in them escaped as in %40)"
    return URL.create(parts.drivername, host=parts.host, port=parts.port).render_as_string()


def _reason(error, url, parts):
    """What the driver says, unless it repeats a word of what may be secret: of the password, or of the URL's query."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
    query = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    secret = [parts.password or "", *(value for name, value in query if name not in HARMLESS)] if parts else [url]
    words = {
        word for text in secret for form in (text, unquote_plus(text), quote(text)) for word in re.split(r"\W+", form)
    }
    if words & {*re.split(r"\W+", reason)} - {""}:
        return f"{type(error).__name__}; more is not said here, since it repeats a part of the URL"
    return plain(reason)


def storage():
    """Where studies are kept: the database of STORAGE, or a journal file. ConnectionError where no database answers;
    neither its text nor its traceback holds a password."""
    if url := os.environ.get(VARIABLE):
        try:
            return RDBStorage(
                url, engine_kwargs={"connect_args": {"connect_timeout": 10}} if url.startswith("postgresql") else None
            )
        except Exception as error:  # of SQLAlchemy, a driver, or the interpreter: any may repeat the URL
            parts = _parts(url)
            said = f"{VARIABLE}={_shown(parts)}: no database to be had there ({_reason(error, url, parts)})"
        raise ConnectionError(said)
    folder = paths.BUILD / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(folder / "studies.log")))


def study(experiment, space):
    """The study of a space on these data, with this code; made where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sources = cached.source_hash(*cached.QUANT_SOURCES, "engine")
    recipes = [asdict(RECIPE), asdict(experiment.float_run(0).recipe), experiment.seeds, experiment.profile]
    identity = [asdict(space), recipes, asdict(ENGINE), experiment.dataset.fingerprint, sources]
    name = f"{space.name}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}"
    return optuna.create_study(study_name=name, storage=storage(), directions=["minimize"] * 3, load_if_exists=True)


def search(experiment, space, trials):
    """Carry a study on to so many trials. -> frame: trial, model, error (% against float, validation), size_bytes,
    cycles, on_front, and the bits of every tensor."""
    current = study(experiment, space)
    if len(current.trials) < trials:
        for widths in warm_starts(space, sensitivities(experiment, space)):
            places = {name: space.tensors()[name].index(bits) for name, bits in widths.items()}
            current.enqueue_trial(places | {"shape": 0}, skip_if_exists=True)
    while (finished := sum(t.state.is_finished() for t in current.get_trials(deepcopy=False))) < trials:
        left = [
            t for t in current.get_trials(deepcopy=False) if t.state == TrialState.RUNNING
        ]  # by a process that was killed
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
        for name, choices in space.tensors().items():
            trial.suggest_int(name, 0, len(choices) - 1)
        trial.suggest_int("shape", 0, len(space.shapes) - 1)
        asked[trial.number] = trial.params
    return asked


def _decoded(space, parameters):
    """-> shape, {tensor: bits}"""
    tensors = space.tensors()
    return space.shapes[parameters["shape"]], {name: choices[parameters[name]] for name, choices in tensors.items()}


def _tell(current, batch, experiment, space):
    tensors = {*space.tensors(), "shape"}
    whole = {number: p for number, p in batch.items() if p.keys() == tensors}
    for number in batch.keys() - whole.keys():  # killed while it was asked for
        current.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    seed = experiment.seeds[0]
    grid = [run(experiment, *_decoded(space, parameters), seed, RECIPE) for parameters in whole.values()]
    table = experiment.table(grid, f"{space.name} widths")
    reference = experiment.table([experiment.float_run(seed)])["mse_validation"][0]
    for number, trial_run, row in zip(whole, grid, table.itertuples(), strict=True):
        values = 100 * (row.mse_validation / reference - 1), row.size_bytes, cycles(trial_run, experiment.dataset)
        current.tell(number, values, skip_if_finished=True)


def _frame(current, space):
    front = {t.number for t in current.best_trials}
    rows = []
    for trial in current.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        shape, widths = _decoded(space, trial.params)
        values = dict(zip(("error", "size_bytes", "cycles"), trial.values, strict=True))
        rows.append(
            {"trial": trial.number, "model": shape_name(shape), **values, "on_front": trial.number in front, **widths}
        )
    columns = ["trial", "model", "error", "size_bytes", "cycles", "on_front", *space.tensors()]
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


def finalist(experiment, space, row, seed):
    """The run of a trial's row by the whole recipe."""
    shapes = {shape_name(shape): shape for shape in space.shapes}
    return run(experiment, shapes[row["model"]], {n: int(row[n]) for n in space.tensors()}, seed, recipes.RECIPE)


def run_of(experiment, space, frame, trial):
    """The first seed's run of a trial."""
    return finalist(experiment, space, frame.set_index("trial", drop=False).loc[trial], experiment.seeds[0])


def train(experiment, space, rows):
    """Run table of finalists over all seeds, with the columns trial and cycles."""
    cells = [
        (row["trial"], finalist(experiment, space, row, seed))
        for _, row in rows.iterrows()
        for seed in experiment.seeds
    ]
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
        return run_of(experiment, self.space, self.trials, self.choice)


def best_mixed(experiment, uniform):
    """Widths for every tensor of the default model in no more bytes than uniform 3 bit, as good as uniform 4 bit where
    any are.

    uniform: run table of `low_bits.uniform`. -> Mixed"""
    space = mixed(experiment)
    trials = search(experiment, space, 64 if experiment.full else 8)
    same_seeds = uniform[uniform["seed"].isin(experiment.seeds)].groupby("width")
    four_bits = trials[(trials[list(space.tensors())] == 4).all(axis=1)]["error"].iloc[0]  # the search begins with them
    rows = finalists(trials, error=four_bits, largest=same_seeds["size_bytes"].mean()["W3A3"])
    table = train(experiment, space, rows)
    return Mixed(space, trials, rows, table, chosen(table, bar=same_seeds["mse_validation"].mean()["W4A4"]))
