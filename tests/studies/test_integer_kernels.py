"""What each rule of the arithmetic is worth, and the forecasts of the integers."""

import numpy as np

from qatlib.studies import integer_kernels


def test_every_output_agrees_and_each_broken_rule_is_counted(small, four_bit_run):
    frame = integer_kernels.differences(four_bit_run, small.dataset)
    sums = frame.groupby("arithmetic")["share"].sum()
    assert np.allclose(sums, 1) and set(sums.index) == set(integer_kernels.BROKEN)
    as_trained = frame[frame["arithmetic"] == "as trained"]
    assert as_trained["steps"].tolist() == [0] and as_trained["share"].tolist() == [1.0]
    truncated = frame[frame["arithmetic"].str.startswith("truncation")]
    assert truncated.loc[truncated["steps"] > 0, "share"].sum() > 0.1


def test_forecasts_show_the_integers_and_the_truth(small, four_bit_run):
    frame = integer_kernels.forecasts(small, four_bit_run)
    assert frame["panel"].nunique() == 2 and {"truth", "ridge", "persistence", "float", "integers, W4A4"} == set(
        frame["series"]
    )
