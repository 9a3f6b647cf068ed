"""The recipe for few bits, what each of its parts is worth, and the grids of notebook 08."""

from dataclasses import dataclass, replace

from qatlib.engine import CONFIGS
from qatlib.float_model.config import patch_config
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs.cached import Run
from qatlib.runs.experiment import RECIPES
from qatlib.studies.techniques import ActivationsFirst, Damping, Freezing, LateFolding

# Chosen by validation error on ETTh1 among VARIANTS: the fastest of those within 0.2 % of the best, of equally fast
# ones the best.
RECIPE = QATConfig(epochs=24, batch=128, learning_rate=5e-3, weight_decay=0.0, averaging=0.0, distil=1.0)
WIDTHS = {
    "W4A4": QuantConfig(4, 4),
    "W3A3": QuantConfig(3, 3),
    "W2A4": QuantConfig(2, 4),
    "W2A2": QuantConfig(2, 2),
    "all 4 bit": QuantConfig(4, 4, 4, 4),
}
ENGINE = CONFIGS["xc7s15"]  # whose cycles are counted
ABLATED = ("W4A4", "W3A3", "W2A2")


@dataclass(frozen=True)
class Variant:
    """The recipe with one thing changed: in training, in the quantisers, in who teaches, or in what the model sees."""

    label: str
    recipe: QATConfig = RECIPE
    quantisers: tuple[tuple[str, str], ...] = ()  # (field of QuantConfig, value)
    own_teacher: bool = False
    context: float = 1  # times as long


def _trained(label, **changes):
    return Variant(label, replace(RECIPE, **changes))


CHOSEN = Variant("chosen recipe")
VARIANTS = (
    CHOSEN,
    Variant("recipe of notebook 04", RECIPES["patch"][1]),
    _trained("twice the epochs", epochs=2 * RECIPE.epochs),
    _trained("weight decay 0.2", weight_decay=0.2),
    _trained("averaged weights", averaging=0.99),
    _trained("no distillation", distil=0.0),
    Variant("its own float model as teacher", own_teacher=True),
    Variant("learned offsets (LSQ+)", quantisers=(("scheme", "asymmetric"),)),
    Variant("adaptive scheme", quantisers=(("scheme", "adaptive"),)),
    _trained("activations first", techniques=(ActivationsFirst(0.4),)),
    _trained("oscillations damped", techniques=(Damping(0.03),)),
    _trained("oscillations frozen", techniques=(Freezing(),)),
    _trained("late folding of batch norm", techniques=(LateFolding(),)),
    Variant("half as long a context again", context=1.5),
)
QUICK = tuple(v for v in VARIANTS if v.label in ("chosen recipe", "no distillation", "oscillations damped"))


def run(experiment, width, seed, variant=CHOSEN):
    """A run of the default model at a width, by a variant of the recipe."""
    model = experiment.default_model
    if variant.context != 1:
        model = patch_config(int(experiment.context * variant.context), experiment.horizon)
    config = replace(width, **dict(variant.quantisers))
    teachers = () if variant.own_teacher or variant.recipe.distil == 0 else experiment.seeds
    recipe = shortened(experiment, variant.recipe)
    return Run(
        model, f"qat-{config.scheme}", seed, experiment.float_run(seed).recipe, config, recipe, teachers=teachers
    )


def shortened(experiment, recipe):
    """The quick profile shows the way, not the numbers: a sixth of the epochs."""
    return recipe if experiment.full else replace(recipe, epochs=max(1, recipe.epochs // 6))


def _table(experiment, cells, name):
    """cells: (label, width, run). -> the run table with the columns variant and width"""
    table = experiment.table([run for *_, run in cells], name)
    return table.assign(variant=[label for label, *_ in cells], width=[width for _, width, _ in cells])


def _has_windows(experiment, variant):
    """Whether the data are long enough for the variant's context; said where they are not."""
    context = run(experiment, WIDTHS["W4A4"], 0, variant).model.context
    try:
        for split in ("train", "validation", "test"):
            experiment.dataset.windows(split, context, experiment.horizon)
    except ValueError as reason:
        print(f"left out, {variant.label}: {reason}")
        return False
    return True


def ablation(experiment):
    """Run table of every variant at the ablated widths, over all seeds."""
    variants = [v for v in VARIANTS if _has_windows(experiment, v)] if experiment.full else QUICK
    cells = [
        (v.label, w, run(experiment, WIDTHS[w], seed, v))
        for v in variants
        for w in ABLATED
        for seed in experiment.seeds
    ]
    return _table(experiment, cells, "recipes")


def float_effort(experiment):
    """Run table of the float model by its own recipe and with one thing of it changed, first three seeds, with the
    column variant."""
    recipe, model = experiment.float_run(0).recipe, experiment.default_model
    tried = {
        "float recipe": (model, recipe),
        "twice the epochs": (model, replace(recipe, epochs=2 * recipe.epochs)),
        "no weight decay": (model, replace(recipe, weight_decay=0.0)),
        "no averaged weights": (model, replace(recipe, averaging=0.0)),
        "no dropout": (replace(model, dropout=0.0), recipe),
    }
    cells = [(name, Run(m, "float", seed, r)) for name, (m, r) in tried.items() for seed in experiment.seeds[:3]]
    return experiment.table([run for _, run in cells], "float recipes").assign(variant=[name for name, _ in cells])


def seeds(experiment, width):
    """Ten at W4A4 of ETTh1, where the differences are smallest."""
    return (
        tuple(range(10))
        if experiment.full and experiment.has_published_errors and width == "W4A4"
        else experiment.seeds
    )


def floats(experiment):
    """Run table of the float models of all seeds in use."""
    used = sorted({seed for width in WIDTHS for seed in seeds(experiment, width)})
    return experiment.table([experiment.float_run(seed) for seed in used], "float models")


def uniform(experiment, widths=tuple(WIDTHS)):
    """Run table of the chosen recipe at every width."""
    cells = [(CHOSEN.label, w, run(experiment, WIDTHS[w], seed)) for w in widths for seed in seeds(experiment, w)]
    return _table(experiment, cells, f"{experiment.dataset.name}, uniform widths")


def others(experiment):
    """Names of the data sets that nothing was chosen on; a quick experiment takes those that ship with the project."""
    return [
        name
        for name in (("etth2", "jfk-weather") if experiment.full else ("jfk-weather",))
        if name != experiment.dataset.name
    ]
