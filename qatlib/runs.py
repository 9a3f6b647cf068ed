"""Cached, resumable runs: each is trained or calibrated once for its configuration, data and source code, on all cores.

A finished run is a folder `build/runs/<key>` with its table row, its float weights or its integer model; it appears whole or not at all,
so a killed grid loses at most the runs in progress.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from qatlib import baselines, data, models, paths, ptq, qat, train
from qatlib.integer_model import IntegerModel
from qatlib.quantize import QuantConfig

COLUMNS = (
    "dataset, model, method, granularity, weight_bits, activation_bits, residual_bits, edge_bits, seed, n_params, size_bytes, "
    "mse_validation, mse, mae, mse_integer, mae_integer, equal_outputs, max_step_difference, train_seconds"
).split(", ")
FLOAT_SOURCES = ("data", "table", "baselines", "models", "train", "runs", "kernels")
QUANT_SOURCES = (*FLOAT_SOURCES, "quantize", "quant_layers", "qat", "ptq", "integer_model", "artifact", "program_check")
CALIBRATION_WINDOWS = 512


@dataclass(frozen=True)
class DataSource:
    """Where the data come from: the arguments of `data.load`."""

    name: str = "auto"
    target: str | None = None
    clean: bool = False

    def load(self):
        return _load(self)

    def resolved(self):
        """The same without `auto`, so that no worker looks for what this process has found or not found."""
        return replace(self, name=self.load().name) if self.name == "auto" else self


@lru_cache(maxsize=4)
def _load(source):
    return data.load(source.name, target=source.target, clean=source.clean)


@dataclass(frozen=True)
class Run:
    """One row of the table. `recipe` trains the float model; `qat_recipe` goes on from it when the method is a `qat-` one.

    exceptions: (path of a primitive, its own QuantConfig) pairs, for mixed widths.
    """

    model: models.ModelConfig
    method: str
    seed: int = 0
    recipe: train.TrainConfig | None = None
    quantization: QuantConfig | None = None
    qat_recipe: train.TrainConfig | None = None
    exceptions: tuple[tuple[str, QuantConfig], ...] = ()

    @property
    def parent(self):
        """The float run that a quantised one starts from."""
        return Run(self.model, "float", self.seed, self.recipe) if self.quantization else None

    @property
    def label(self):
        width = f" W{self.quantization.weight_bits}A{self.quantization.activation_bits}" if self.quantization else ""
        return f"{self.model.name} {self.method}{width} seed {self.seed}"

    def key(self, dataset):
        """Of the configuration, the values in use (the same file may be read by another column, or repaired) and the source code."""
        sources = QUANT_SOURCES if self.quantization else FLOAT_SOURCES
        identity = json.dumps([asdict(self), dataset.fingerprint, source_hash(sources), torch.__version__], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:20]


@lru_cache
def source_hash(names):
    """SHA-256 over the named modules of this package."""
    files = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in names]
    return hashlib.sha256(b"\0".join(files)).hexdigest()


def folder(run, dataset):
    return paths.BUILD / "runs" / run.key(dataset)


def row(run, dataset):
    """The finished run's table row, or None."""
    try:
        return json.loads((folder(run, dataset) / "row.json").read_text())
    except FileNotFoundError:
        return None


def collect(runs, source, *, workers=None, name=""):
    """Table of the runs, one row each in their order; computes what is missing, float parents first, and shows how far it is."""
    dataset = source.load()
    runs = list(runs)
    parents = {run.parent for run in runs if run.parent and row(run, dataset) is None}
    stages = [_missing(parents, dataset), _missing([r for r in runs if r not in parents], dataset)]
    if any(stages):
        _compute(stages, source, workers or os.cpu_count() or 1, name)
    return pd.DataFrame([row(run, dataset) for run in runs], columns=COLUMNS)


def _missing(runs, dataset):
    return sorted((r for r in dict.fromkeys(runs) if row(r, dataset) is None), key=_cost, reverse=True)


def _cost(run):
    """Longest first, so that no core waits for the last run: tokens squared times epochs."""
    recipe = run.qat_recipe or run.recipe
    length = run.model.label + run.model.horizon if run.model.family == "decoder" else 0
    epochs = recipe.epochs if recipe and not run.method.startswith("ptq") else 0
    return epochs * (run.model.tokens**2 + length**2), run.label


def _compute(stages, source, workers, name):
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    bar = tqdm(total=sum(map(len, stages)), desc=name, unit="run", file=sys.stdout, mininterval=1, dynamic_ncols=True)
    try:
        for stage in stages:
            waiting = {pool.submit(execute, run, source.resolved()): run for run in stage}
            for future in as_completed(waiting):
                future.result()
                bar.set_postfix_str(waiting[future].label, refresh=False)
                bar.update()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        bar.close()
    pool.shutdown()


def _start_worker():
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")  # what the data have to say, the parent has said


def execute(run, source):
    """Carry out one run in this process and keep its result. Returns its folder."""
    dataset = source.load()
    target = folder(run, dataset)
    if (target / "row.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        result = _baseline(run, dataset) if run.recipe is None else _network(run, dataset, source, scratch)
        common = {"dataset": dataset.name, "model": run.model.name, "method": run.method, "seed": run.seed}
        widths = {}
        if run.quantization:
            widths = {k: v for k, v in asdict(run.quantization).items() if k in COLUMNS}
        (scratch / "row.json").write_text(json.dumps({**common, **widths, **result}))
        scratch.replace(target)
    except OSError:
        if not (target / "row.json").exists():  # another process finished the same run meanwhile
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


@lru_cache(maxsize=4)
def splits(model, source):
    """(train, validation, test) windows of a model's context and horizon."""
    return tuple(source.load().windows(split, model.context, model.horizon) for split in ("train", "validation", "test"))


@lru_cache(maxsize=4)
def split_batches(model, source):
    subtract, sensor = model.subtract_last, sensor_of(source.load())
    return tuple(train.batches(windows, sensor, subtract_last=subtract) for windows in splits(model, source))


def sensor_of(dataset):
    return models.Sensor(dataset.resolution, dataset.mean, dataset.std)


def errors(prediction, truth):
    return {"mse": baselines.mse(prediction, truth), "mae": baselines.mae(prediction, truth)}


def _baseline(run, dataset):
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


def _network(run, dataset, source, scratch):
    torch.set_num_threads(1)
    if run.quantization:
        return _quantised(run, dataset, source, scratch)
    training, validation, test = split_batches(run.model, source)
    torch.manual_seed(run.seed)
    model = models.Forecaster(run.model, sensor_of(dataset))
    validation_errors, seconds = train.fit(model, training, validation, run.recipe, seed=run.seed)
    save_file(model.state_dict(), scratch / "float.safetensors")
    n_params = sum(p.numel() for p in model.parameters())
    return {
        "n_params": n_params,
        "size_bytes": 4 * n_params,
        "mse_validation": min(validation_errors),
        **errors(train.forecast(model, test.inputs).numpy().astype(np.float64), test.targets.numpy()),
        "train_seconds": seconds,
    }


def float_model(run, source):
    """The trained float model behind a run, computed first if need be."""
    run = run.parent or run
    dataset = source.load()
    execute(run, source)
    model = models.Forecaster(run.model, sensor_of(dataset))
    model.load_state_dict(load_file(folder(run, dataset) / "float.safetensors"))
    return model.eval()


def quantised_model(run, source):
    """The calibrated or QAT-trained model of a quantised run, computed first if need be."""
    model = qat.quantize_model(float_model(run, source), run.quantization, exceptions=dict(run.exceptions))
    model.load_state_dict(load_file(execute(run, source) / "quantised.safetensors"))
    return model.eval()


def integer_model(run, source):
    """The exported model of a quantised run, computed first if need be."""
    return IntegerModel.load(execute(run, source) / "model.safetensors")


def _train_quantised(run, source):
    """-> calibrated or QAT-trained model, seconds."""
    training, validation, _ = split_batches(run.model, source)
    model, method = float_model(run, source), run.method.removeprefix("ptq-") if run.qat_recipe is None else "mse"
    calibration = training.inputs[:: max(1, len(training) // CALIBRATION_WINDOWS)]
    began = time.perf_counter()
    quantised = ptq.quantise(model, run.quantization, calibration, method, exceptions=dict(run.exceptions))
    if run.qat_recipe is None:
        return quantised, time.perf_counter() - began
    teacher = train.forecast(model, training.inputs)
    _, seconds = train.fit(quantised, training, validation, run.qat_recipe, seed=run.seed, teacher=teacher)
    return quantised, seconds


def _quantised(run, dataset, source, scratch):
    _, validation, test = split_batches(run.model, source)
    windows = splits(run.model, source)[2]
    quantised, seconds = _train_quantised(run, source)
    save_file(quantised.state_dict(), scratch / "quantised.safetensors")
    integers = qat.export(quantised)
    integers.save(scratch / "model.safetensors")
    codes = qat.output_codes(quantised, test.inputs)
    step = float(quantised.head.quantizer.step().detach().double())
    zero_point = integers.tensors["head"].zero_point
    difference = np.abs(integers.output_codes(windows.counts) - zero_point - codes)
    forecast = dataset.standardise(integers.forward(windows.counts) * dataset.resolution)
    integer_errors = errors(forecast, windows.truth)
    return {
        "n_params": sum(p.numel() for p in models.Forecaster(run.model, quantised.sensor).parameters()),
        "size_bytes": integers.size_bytes,
        "mse_validation": baselines.mse(qat.output_codes(quantised, validation.inputs) * step, validation.targets.numpy()),
        **errors(codes * step, test.targets.numpy()),
        "mse_integer": integer_errors["mse"],
        "mae_integer": integer_errors["mae"],
        "equal_outputs": float(np.mean(difference == 0)),
        "max_step_difference": int(difference.max()),
        "train_seconds": seconds,
    }
