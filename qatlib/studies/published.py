"""Numbers that others published, each with its source: errors and latencies."""

import pandas as pd

INFORMER = "Zhou et al., arXiv 2012.07436, univariate forecasting"
S4 = "Gu et al., arXiv 2111.00396, univariate forecasting"
LING = "Ling, Qian & Schiele, arXiv 2407.11041, at 100 MHz"
ESP32 = "Becnel et al., doi 10.1109/COINS54846.2022.9854988, as quoted in arXiv 2407.11041"
MLP = "Ling et al., Sensors 25(1), 83, doi 10.3390/s25010083"
LSTM = "Qian et al., arXiv 2310.16842, 17,534 inferences a second"
CODE = (
    "github.com/tianheng-ling/TinyTransformer4TS 90db1c6, elastic-ai.creator 62cc585; its VHDL simulated with "
    "GHDL: {:,} cycles"
)
# Test MSE on ETTh1 `OT`, horizon 24.
ERRORS = pd.DataFrame(
    [
        ("Informer", 0.098, INFORMER),
        ("LogTrans", 0.103, INFORMER),
        ("DeepAR", 0.107, INFORMER),
        ("ARIMA", 0.108, INFORMER),
        ("S4", 0.061, S4),
    ],
    columns=["label", "mse", "source"],
)
CLOCK = 100  # MHz, of the published designs on the XC7S15; every latency from cycles is stated at it


def _simulated(cycles):
    return cycles / CLOCK, "published code, simulated", CODE.format(cycles)


# One forecast, batch 1. model, width: those here of the same shape, where there are any.
LATENCIES = pd.DataFrame(
    [
        ("point-w24-d16-h24", "W8A8", "Transformer, 24 inputs, d = 16, 8 bit", "XC7S15", *_simulated(131_139)),
        ("point-w24-d16-h24", "W4A4", "Transformer, 24 inputs, d = 16, 4 bit", "XC7S15", *_simulated(121_445)),
        ("point-w12-d32-h1", "W4A4", "Transformer, 12 inputs, d = 32, 4 bit", "XC7S15", 1330, "published", LING),
        ("", "", "Transformer, 12 inputs, d = 64, 6 bit", "XC7S15", 4610, "published", LING),
        ("", "", "Transformer, 6 inputs, d = 64, 8 bit", "XC7S15", 2820, "published", LING),
        ("", "", "Transformer, 8 bit", "ESP32", 176_000, "published", ESP32),
        ("", "", "LSTM", "XC7S15", 1e6 / 17_534, "published", LSTM),
        ("", "", "MLP, 8 bit", "XC7S15", 23.87, "published", MLP),
    ],
    columns=["model", "width", "label", "device", "microseconds", "evidence", "source"],
)


LTSF = "Zeng et al., arXiv 2205.13504, github.com/cure-lab/LTSF-Linear, univariate, context 336"
_HORIZONS = (96, 192, 336, 720)
_UNIVARIATE = {  # test MSE of `OT` at each of _HORIZONS, the last incomplete batch of test windows left out
    ("etth1", "NLinear"): (0.053, 0.069, 0.081, 0.080),
    ("etth1", "DLinear"): (0.056, 0.071, 0.098, 0.189),
    ("etth1", "FEDformer-f"): (0.079, 0.104, 0.119, 0.142),
    ("etth1", "Informer"): (0.193, 0.217, 0.202, 0.183),
    ("etth2", "NLinear"): (0.129, 0.169, 0.194, 0.225),
    ("etth2", "DLinear"): (0.131, 0.176, 0.209, 0.276),
    ("etth2", "FEDformer-f"): (0.128, 0.185, 0.231, 0.278),
    ("etth2", "Informer"): (0.213, 0.227, 0.242, 0.291),
}
FITS = "github.com/VEWOXIC/FITS, README: all test windows"
_MULTIVARIATE = {  # of all seven channels, every test window counted: (errors on ETTh1, on ETTh2), mode, source
    "SparseTSF": ((0.362, 0.403, 0.434, 0.426), (0.294, 0.339, 0.359, 0.383), "independent",
                  "Lin et al., arXiv 2405.00946, github.com/lss-1138/SparseTSF, README, context 720"),
    "FITS": ((0.372, 0.404, 0.427, 0.424), (0.271, 0.331, 0.354, 0.377), "independent",
             f"Xu et al., arXiv 2307.03756, {FITS}, context 720"),
    "DLinear": ((0.384, 0.443, 0.446, 0.504), (0.282, 0.350, 0.414, 0.588), "independent",
                f"Zeng et al., arXiv 2205.13504, in {FITS}"),
    "PatchTST": ((0.385, 0.413, 0.440, 0.456), (0.274, 0.338, 0.367, 0.391), "independent",
                 f"Nie et al., arXiv 2211.14730, in {FITS}"),
    "iTransformer": ((0.386, 0.441, 0.487, 0.503), (), "mixed",
                     "Liu et al., arXiv 2310.06625, context 96, in CycleNet, arXiv 2409.18479, table 2"),
    "TTM, zero-shot": ((0.363, 0.387, 0.402, 0.475), (0.276, 0.346, 0.385, 0.419), "independent",
                       "Ekambaram et al., arXiv 2401.03955, github.com/ibm-granite/granite-tsfm, r2, context 512"),
}  # fmt: skip
LONG_HORIZONS = pd.DataFrame(
    [
        (dataset, 1, "univariate", model, horizon, mse, LTSF)
        for (dataset, model), errors in _UNIVARIATE.items()
        for horizon, mse in zip(_HORIZONS, errors, strict=True)
    ]
    + [
        (dataset, 7, mode, model, horizon, mse, source)
        for model, (etth1, etth2, mode, source) in _MULTIVARIATE.items()
        for dataset, errors in (("etth1", etth1), ("etth2", etth2))
        for horizon, mse in zip(_HORIZONS, errors, strict=bool(errors))
    ],
    columns=["dataset", "channels", "channel_mode", "model", "horizon", "mse", "source"],
)
