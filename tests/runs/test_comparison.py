"""What validation chooses, and paired differences: by hand-made tables."""

import numpy as np
import pandas as pd
import pytest

from qatlib.runs import comparison


def table(method, bits, validation, test, integer=None):
    n = len(test)
    return pd.DataFrame(
        {
            "model": "m",
            "method": method,
            "weight_bits": float(bits),
            "activation_bits": float(bits),
            "seed": range(n),
            "mse_validation": validation,
            "mse": test,
            "mse_integer": integer if integer is not None else [np.nan] * n,
        }
    )


FLOATS = table("float", np.nan, [1.0, 1.0, 1.0], [1.0, 2.0, 4.0])


def test_validation_chooses_even_where_test_would_choose_otherwise():
    good, bad = table("a", 4, [1.0, 1.0], [9.0, 9.0]), table("b", 4, [2.0, 2.0], [1.0, 1.0])
    other = table("b", 8, [0.5, 0.5], [3.0, 3.0])
    chosen = comparison.chosen(pd.concat([good, bad, other]), comparison.WIDTHS, ["method"])
    assert list(zip(chosen["method"], chosen["weight_bits"], strict=True)) == [("a", 4), ("a", 4), ("b", 8), ("b", 8)]


def test_pairs_share_their_seed():
    """Seed by seed +10 %: no spread is left, though the seeds themselves are far apart; the order of rows does not
    matter."""
    rows = table("qat", 4, [1, 1, 1], [0, 0, 0], integer=[1.1, 2.2, 4.4]).sample(frac=1, random_state=1)
    frame = comparison.paired_change(rows, FLOATS, ["method"])
    assert frame.loc[0, ["change", "low", "high"]].astype(float).tolist() == pytest.approx([10, 10, 10])
    assert frame.loc[0, "mse_reference"] == pytest.approx(7 / 3) and frame.loc[0, "seeds"] == 3


def test_the_interval_is_the_t_interval():
    frame = comparison.paired_change(table("qat", 4, [1, 1, 1], [1.01, 2.04, 4.12]), FLOATS, ["method"])
    changes = np.array([1.0, 2.0, 3.0])
    half = 2.9199856 * changes.std(ddof=1) / np.sqrt(3)  # t(0.95, 2 degrees of freedom), from tables
    assert frame.loc[0, ["low", "high"]].astype(float).tolist() == pytest.approx([2 - half, 2 + half])


def test_one_seed_has_no_interval():
    frame = comparison.paired_change(table("qat", 4, [1], [1.5]), FLOATS, ["method"])
    assert frame.loc[0, "change"] == pytest.approx(50) and np.isnan(frame.loc[0, "low"])


def test_integers_count_where_there_are_any():
    rows = pd.concat([table("float", np.nan, [1.0], [1.0]), table("qat", 4, [1.0], [2.0], integer=[3.0])])
    assert comparison.final_error(rows).tolist() == [1.0, 3.0]
    assert comparison.with_labels(rows)["width"].tolist() == ["", "W4A4"]
