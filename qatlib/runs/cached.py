"""Cached, resumable runs: each is trained or calibrated once for its configuration, data and source code, on all cores
or on a cluster.

What a run leaves is kept by `storage`. It is computed without a disk, from what is handed to it: see `scale_out`.
"""

import hashlib
import inspect
import json
import re
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain, count

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save

from qatlib.data.series import SPLITS
from qatlib.float_model import baselines, label_baselines, train, transformer
from qatlib.float_model.config import ModelConfig, Sensor
from qatlib.integer_model.model import IntegerModel
from qatlib.quantised_model import fused, ptq, qat
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import classify, storage
from qatlib.system import paths

# folders and files of this package
FLOAT_SOURCES = ("data", "float_model", "integer_model/kernels.py", "runs/cached.py")
QUANT_SOURCES = (*FLOAT_SOURCES, "integer_model", "quantised_model")
CODE = {".py", ".c", ".cpp"}
CALIBRATION_WINDOWS = 512
LOSSES = {"forecast": F.mse_loss, "classify": F.cross_entropy}  # of a task


@dataclass(frozen=True)
class Run:
    """One row of the table. `recipe` trains the float model; `qat_recipe` goes on from it when the method is a `qat-`
    one.

    exceptions: (path of a primitive, its own QuantConfig) pairs, for mixed widths. teachers: seeds of the float models
    whose mean forecast QAT learns (none: the run's own), of a `teacher_model` of the same context and horizon where it
    is another one.
    """

    model: ModelConfig
    method: str
    seed: int = 0
    recipe: train.TrainConfig | None = None
    quantization: QuantConfig | None = None
    qat_recipe: qat.QATConfig | None = None
    exceptions: tuple[tuple[str, QuantConfig], ...] = ()
    teachers: tuple[int, ...] = ()
    teacher_model: ModelConfig | None = None

    @property
    def parents(self):
        """The float run that a quantised one starts from, and those of its teachers."""
        if not self.quantization:
            return []
        own = Run(self.model, "float", self.seed, self.recipe)
        return [own, *(replace(own, model=self.teacher_model or self.model, seed=seed) for seed in self.teachers)]

    @property
    def label(self):
        width = f" {self.quantization.label}" if self.quantization else ""
        return f"{self.model.name} {self.method}{width} seed {self.seed}"

    def key(self, dataset):
        """Of the configuration, the values in use (the same file may be read by another column, or repaired) and the
        source code."""
        sources = QUANT_SOURCES if self.quantization else FLOAT_SOURCES
        techniques = self.qat_recipe.techniques if self.qat_recipe else ()
        own = {inspect.getsource(inspect.getmodule(technique)) for technique in techniques}
        identity = [repr(self), dataset.fingerprint, source_hash(*sources), sorted(own), torch.__version__]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]


@lru_cache
def source_hash(*places):
    """SHA-256 over files of this package, and over all that is code in its folders."""
    found = [sorted(p.rglob("*")) if p.is_dir() else [p] for p in (paths.PACKAGE / place for place in places)]
    files = [path for part in found for path in part if path.suffix in CODE]
    named = [f"{path.relative_to(paths.PACKAGE)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def cost(run):
    """Relative time that a run takes: tokens squared times epochs."""
    recipe = run.qat_recipe or run.recipe
    length = run.model.label + run.model.horizon if run.model.family == "decoder" else 0
    epochs = recipe.epochs if recipe and not run.method.startswith("ptq") else 0
    return (1 + epochs) * (run.model.tokens**2 + length**2)


def execute(run, dataset):
    """Carry out one run in this process, if need be, and keep its result. -> its folder"""
    if storage.row(run, dataset) is None:
        for parent in run.parents:
            execute(parent, dataset)
        storage.keep(run, dataset, compute(run, dataset, [storage.kept(parent, dataset) for parent in run.parents]))
    return storage.folder(run, dataset)


def compute(run, dataset, parents):
    """Carry out one run, here and without a disk. parents: the files of its `Run.parents`. -> its files: {name:
    bytes}"""
    torch.set_num_threads(1)
    if run.recipe is None:
        result, files = _baseline(run, dataset), {}
    elif run.quantization is None:
        result, files = _float(run, dataset)
    else:
        result, files = _quantised(
            run, dataset, [_loaded(p, dataset, files) for p, files in zip(run.parents, parents, strict=True)]
        )
    widths = {k: v for k, v in asdict(run.quantization).items() if k in storage.COLUMNS} if run.quantization else {}
    common = {"dataset": dataset.name, "model": run.model.name, "method": run.method, "seed": run.seed}
    return files | {storage.ROW: json.dumps({**common, **widths, **result}).encode()}


def splits(model, dataset):
    """Windows of a model's context and horizon: train, validation, test, or more than one to test by."""
    return _splits(dataset, model.context, model.horizon, model.task)


def split_batches(model, dataset):
    """The same as a network takes them."""
    return _split_batches(dataset, model.context, model.horizon, model.task, model.subtract_last, model.forecast)


@lru_cache(maxsize=2)  # of several channels and long horizons they take a gigabyte
def _splits(dataset, context, horizon, task):
    sizes = (context,) if task == "classify" else (context, horizon)
    return tuple(dataset.windows(split, *sizes) for split in getattr(dataset, "parts", SPLITS))


@lru_cache(maxsize=2)
def _split_batches(dataset, context, horizon, task, subtract_last, targets):
    parts, sensor = _splits(dataset, context, horizon, task), sensor_of(dataset)
    if task == "classify":
        weights = len(parts[0]) / (horizon * np.maximum(1, np.bincount(parts[0].labels, minlength=horizon)))
        return tuple(train.labelled_batches(w, sensor, subtract_last=subtract_last, weights=weights) for w in parts)
    return tuple(train.batches(w, sensor, subtract_last=subtract_last, targets=targets) for w in parts)


def sensor_of(dataset):
    names = dataset.names if hasattr(dataset, "names") else (dataset.target,)
    facts = [np.asarray(fact) for fact in (dataset.resolution, dataset.mean, dataset.std)]
    return Sensor(*(fact.item() if len(names) == 1 else fact for fact in facts), artifact_names(names))


def artifact_names(columns):
    """Names of columns as a model's file may have them: other characters as _, and a number behind what is taken."""
    names = []
    for column in columns:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", column)[:90]
        name = name if re.match("[A-Za-z0-9]", name) else f"c{name}"
        names.append(next(n for n in chain([name], (f"{name}-{i}" for i in count(2))) if n not in names))
    return tuple(names)


def errors(prediction, truth):
    return {"mse": baselines.mse(prediction, truth), "mae": baselines.mae(prediction, truth)}


def _label_baseline(run, dataset):
    training, *parts = splits(run.model, dataset)
    scores, size = label_baselines.scores(run.method, training, parts, run.model.horizon)
    return {"n_params": size, "size_bytes": 4 * size, **classify.measures(scores, parts, list(dataset.parts)[1:])}


def _baseline(run, dataset):
    if run.model.task == "classify":
        return _label_baseline(run, dataset)
    parts = [dataset.windows(s, run.model.context, run.model.horizon) for s in ("train", "validation", "test")]
    if run.method == "ridge":
        validation, test = (baselines.ridge(*parts[:2], part, dataset) for part in parts[1:])
        size = (run.model.context + 1) * run.model.horizon
    else:
        forecast = {"persistence": baselines.persistence, "seasonal": baselines.seasonal}[run.method]
        validation, test = (forecast(part, dataset) for part in parts[1:])
        size = 0
    return {
        "mse_validation": baselines.mse(validation, parts[1].truth),
        "n_params": size,
        "size_bytes": 4 * size,
        **errors(test, parts[2].truth),
    }


def _float(run, dataset):
    training, validation, *tests = split_batches(run.model, dataset)
    torch.manual_seed(run.seed)
    model = transformer.network(run.model, sensor_of(dataset))
    model.start(training, validation)
    validation_errors, seconds = train.fit(
        model, training, validation, run.recipe, seed=run.seed, loss=LOSSES[run.model.task]
    )
    n_params = sum(p.numel() for p in model.parameters())
    outputs = [train.forecast(model, part.inputs).numpy().astype(np.float64) for part in (validation, *tests)]
    if run.model.task == "classify":
        found = classify.measures(outputs, splits(run.model, dataset)[1:], list(dataset.parts)[1:])
        found["loss_validation"] = min(validation_errors)
    else:
        found = {"mse_validation": min(validation_errors), **errors(outputs[1], tests[0].targets.numpy())}
    facts = {"n_params": n_params, "size_bytes": 4 * n_params, **found, "train_seconds": seconds}
    return facts, {"float.safetensors": save(model.state_dict())}


def _loaded(run, dataset, files):
    model = transformer.network(run.model, sensor_of(dataset))
    model.load_state_dict(load(files["float.safetensors"]))
    return model.eval()


def float_model(run, dataset):
    """The trained float model behind a run, computed first if need be."""
    run = run.parents[0] if run.parents else run
    execute(run, dataset)
    return _loaded(run, dataset, storage.kept(run, dataset))


def quantised_model(run, dataset):
    """The calibrated or QAT-trained model of a quantised run, computed first if need be."""
    execute(run, dataset)
    model = qat.quantize_model(float_model(run, dataset), run.quantization, exceptions=dict(run.exceptions))
    model.load_state_dict(load(storage.kept(run, dataset)["quantised.safetensors"]))
    return model.eval()


def integer_model(run, dataset):
    """The exported model of a quantised run, computed first if need be."""
    return IntegerModel.load(execute(run, dataset) / "model.safetensors")


def _train_quantised(run, dataset, parents):
    """-> calibrated or QAT-trained model, seconds."""
    training, validation, *_ = split_batches(run.model, dataset)
    own, *teachers = parents
    method = run.method.removeprefix("ptq-") if run.qat_recipe is None else "mse"
    calibration = training.inputs[:: max(1, len(training) // CALIBRATION_WINDOWS)]
    began = time.perf_counter()
    quantised = ptq.quantise(own, run.quantization, calibration, method, exceptions=dict(run.exceptions))
    if run.qat_recipe is None:
        return quantised, time.perf_counter() - began
    teacher = torch.stack([train.forecast(model, training.inputs) for model in teachers or [own]]).mean(0)
    if run.model.task == "classify":  # as likely as the teacher has it, and as heavy as the label is
        teacher = training.targets.sum(1, keepdim=True) * teacher.softmax(1)
    loss, recipe = LOSSES[run.model.task], run.qat_recipe
    _, seconds = fused.fit(quantised, own, training, validation, recipe, seed=run.seed, teacher=teacher, loss=loss)
    return quantised, seconds


def _quantised(run, dataset, parents):
    if run.model.task == "classify":
        return _quantised_classifier(run, dataset, parents)
    _, validation, test = split_batches(run.model, dataset)
    windows, sensor = splits(run.model, dataset)[2], sensor_of(dataset).part(run.model.forecast)
    quantised, seconds = _train_quantised(run, dataset, parents)
    integers = qat.export(quantised)
    codes = qat.output_codes(quantised, test.inputs)
    step = float(quantised.head.quantizer.step().detach().double())
    zero_point = integers.tensors["head"].zero_point
    difference = np.abs(integers.output_codes(windows.counts) - zero_point - codes)
    forecast = (integers.forward(windows.counts) * sensor.resolution - sensor.mean) / sensor.std
    truth = windows.truth if windows.truth.ndim == 2 else windows.truth[:, :, list(run.model.forecast)]
    integer_errors = errors(forecast, truth)
    return {
        "n_params": sum(p.numel() for p in transformer.network(run.model, quantised.sensor).parameters()),
        "size_bytes": integers.size_bytes,
        "mse_validation": baselines.mse(
            qat.output_codes(quantised, validation.inputs) * step, validation.targets.numpy()
        ),
        **errors(codes * step, test.targets.numpy()),
        "mse_integer": integer_errors["mse"],
        "mae_integer": integer_errors["mae"],
        "equal_outputs": float(np.mean(difference == 0)),
        "max_step_difference": int(difference.max()),
        "train_seconds": seconds,
    }, {"quantised.safetensors": save(quantised.state_dict()), "model.safetensors": integers.to_bytes()}


def _quantised_classifier(run, dataset, parents):
    parts, batches = splits(run.model, dataset)[1:], split_batches(run.model, dataset)[1:]
    quantised, seconds = _train_quantised(run, dataset, parents)
    integers = qat.export(quantised)
    scores = [integers.forward(part.counts) for part in parts]
    equal = [np.mean(qat.output_codes(quantised, b.inputs) == s) for b, s in zip(batches, scores, strict=True)]
    return {
        "n_params": sum(p.numel() for p in transformer.network(run.model, quantised.sensor).parameters()),
        "size_bytes": integers.size_bytes,
        **classify.measures(scores, parts, list(dataset.parts)[1:]),
        "equal_outputs": float(min(equal)),
        "train_seconds": seconds,
    }, {"quantised.safetensors": save(quantised.state_dict()), "model.safetensors": integers.to_bytes()}
