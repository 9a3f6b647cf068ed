"""Notebook 03: errors by method and width, and what each tensor costs at 4 bits."""

import pandas as pd
import seaborn as sns

from qatlib.float_model import transformer
from qatlib.float_model.config import Sensor
from qatlib.quantised_model import qat, quant_layers
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached
from qatlib.studies.style import COLOURS, PALETTE, baseline_lines, new_axes, plain_log


def tensor_costs(experiment):
    """Change of validation MSE (%) when one tensor alone has 4 bits, the rest 8: tensor, kind, seed, change."""
    cells = [
        (path, kind, run)
        for path, kind in tensors(experiment.default_model)
        for run in experiment.one_tensor_low(path, kind)
    ]
    table = experiment.table([run for *_, run in cells], "one tensor at 4 bits")
    reference = experiment.table(experiment.all_eight()).set_index("seed")["mse_validation"]
    change = 100 * (table["mse_validation"] / table["seed"].map(reference) - 1)
    names = [path.replace("encoder.0.", "") for path, *_ in cells]
    return pd.DataFrame(
        {"tensor": names, "kind": [kind for _, kind, _ in cells], "seed": table["seed"], "change": change}
    )


def tensors(config):
    """(path, kind) of every tensor of a model that has a width of its own; kind: weights or activations."""
    twin = qat.quantize_model(transformer.network(config, Sensor(1.0, 0.0, 1.0)), QuantConfig(activation_bits=4))
    for path, module in twin.named_modules():
        if isinstance(module, quant_layers.QuantLinear):
            yield path, "weights"
        if isinstance(module, (quant_layers.Quantized, quant_layers.QuantSoftmax)):
            yield path, "activations"


def by_method(experiment, *, bits, granularity):
    """{method: quantised model}: the default model's first seed by PTQ, weights and activations at these bits."""
    wanted = experiment.seeds[0], bits, granularity
    runs = [r for r in experiment.ptq() if (r.seed, r.quantization.weight_bits, r.quantization.granularity) == wanted]
    return {run.method.removeprefix("ptq-"): cached.quantised_model(run, experiment.dataset) for run in runs}


def plot_bits(frame, baselines, ax=None):
    """Error of PTQ by bits. frame: weight_bits, method, granularity, mse, seed; baselines: method (float among them),
    mse."""
    ax = new_axes(ax, figsize=(9, 4.6))
    order = sorted(frame["weight_bits"].unique(), reverse=True)
    for (method, granularity), part in frame.groupby(["method", "granularity"], sort=False):
        means = part.groupby("weight_bits")["mse"].mean().reindex(order)
        label = f"{method.removeprefix('ptq-')}, per {granularity}"
        style = "-o" if granularity == "channel" else "--s"
        ax.plot(range(len(order)), means, style, color=COLOURS[method], ms=5, label=label)
    ax.set_xticks(range(len(order)), [f"{b:.0f}" for b in order])
    ax.set(xlabel="bits of weights and activations (residual stream and edges: 8)", ylabel="test MSE of the integers")
    baseline_lines(ax, baselines)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_tensor_cost(frame, ax=None):
    """frame: tensor, kind, change (%) over seeds; what 4 bits in that tensor alone cost."""
    order = frame.groupby("tensor")["change"].mean().sort_values(ascending=False).index
    ax = new_axes(ax, figsize=(8, 0.36 * len(order) + 1.2))
    palette = {"weights": PALETTE[0], "activations": PALETTE[1]}
    sns.barplot(frame, y="tensor", x="change", hue="kind", order=order, palette=palette, errorbar=("sd", 1), ax=ax)
    ax.set(xlabel="change of validation MSE (%), this tensor at 4 bits, all others at 8", ylabel="")
    ax.tick_params(axis="y", labelsize=10)
    ax.legend(title="")
    return ax


def plot_step_error(curve, steps, ax=None):
    """Error of one tensor over its step. curve: step, mse; steps: method, step, mse, what each method picks."""
    ax = new_axes(ax, figsize=(7.5, 4.4))
    ax.loglog(curve["step"], curve["mse"], color="0.35", label="measured: rounding and clipping")
    ax.loglog(curve["step"], curve["step"] ** 2 / 12, color="0.35", ls="--", lw=1, label="step² / 12: rounding alone")
    for row, marker in zip(steps.itertuples(), "s^oD"):
        label = f"{row.method}: {row.step:.3g}"
        ax.plot(row.step, row.mse, marker, color=COLOURS[f"ptq-{row.method}"], ms=9, label=label)
    ax.set(
        xlabel="step (log scale)",
        ylabel="mean squared error of the weights (log scale)",
        ylim=(curve["mse"].min() / 4, None),
    )
    plain_log(ax.xaxis)
    ax.legend()
    return ax
