"""What validation chooses among families."""

import numpy as np
import pandas as pd
import pytest

from qatlib.runs import families
from qatlib.runs.comparison import final_error


@pytest.fixture(scope="module")
def studied(small, in_process):
    return families.Families(small)


def test_linear_maps_have_every_reach_and_rank(studied):
    """Of a context of 48 samples and a horizon of 6, which no rank exceeds."""
    shapes = {(m.reach, m.rank) for m in studied.models.values() if m.family == "linear"}
    assert shapes == {(reach, rank) for reach in (14, 24, 48) for rank in (3, 5, 6)}
    assert set(studied.linear["seed"]) == {0}


def test_rank_and_reach_are_those_of_the_lowest_validation_error(studied):
    row = studied.linear.loc[studied.linear["mse_validation"].idxmin()]
    assert studied.best_linear.name == row["model"]


def test_rivals_are_trained_at_one_rate_in_the_quick_profile(studied):
    """SparseTSF is left out, since 48 samples are whole days but 6 are none."""
    rates = studied.tried.groupby("family")["rate"].apply(list)
    assert set(studied.rivals["family"]) == {"nlinear", "dlinear", "fits", "cnn", "lstm"} == set(rates.index) - {"skip"}
    assert all(found == [families.RATES[family][1]] for family, found in rates.items())


def test_the_best_float_model_may_be_any(studied):
    choice, tables = studied.best_float(), (studied.linear, studied.encoders, studied.rivals)
    errors = [table.groupby("model")["mse_validation"].mean().min() for table in tables]
    assert choice.table["mse_validation"].mean() == pytest.approx(min(errors))


def test_encoders_beside_a_linear_map_start_where_it_is(studied):
    """So they are never worse on validation than a map of that rank and reach alone."""
    alone = {(studied.models[n].rank, studied.models[n].reach): e for n, e in _errors(studied.linear).items()}
    beside = {n: e for n, e in _errors(studied.encoders).items() if studied.models[n].family == "skip"}
    assert len(beside) == 1
    for name, error in beside.items():
        model = studied.models[name]
        assert error <= alone[model.rank, model.reach] * (1 + 1e-6)


def _errors(table):
    return table.groupby("model")["mse_validation"].mean().to_dict()


def test_the_choice_has_the_lowest_validation_error_of_its_width(studied):
    for bits in (8, 4):
        choice = studied.chosen(bits)
        rows = studied.integers[studied.integers["weight_bits"] == bits]
        errors = rows.groupby("model")["mse_validation"].mean()
        assert choice.model.name == errors[[model.name for model in studied.finalists]].idxmin()
        assert set(choice.table["weight_bits"]) == {bits} and choice.model.name not in choice.reason
        assert choice.size_bytes == choice.table["size_bytes"].iloc[0]


def test_the_smallest_is_good_enough_and_nothing_smaller_is(studied):
    choice, bar = studied.smallest(), families.WITHIN * studied.linear["mse_validation"].min()
    errors = studied.integers.groupby(["model", "weight_bits"])[["mse_validation", "size_bytes"]].mean()
    good = errors[errors["mse_validation"] <= bar]
    assert choice.size_bytes == (good["size_bytes"].min() if len(good) else choice.size_bytes)


def test_every_integer_is_the_trained_model(studied):
    assert (studied.integers["equal_outputs"] == 1).all()


def test_against_its_own_float_model(studied):
    """Of the same seeds; a float model does not differ from itself."""
    choice, best = studied.chosen(), studied.best_float()
    floats = pd.concat([studied.linear, studied.encoders]).set_index(["model", "seed"])["mse"]
    own = floats[[(choice.model.name, seed) for seed in choice.table["seed"]]].to_numpy()
    np.testing.assert_allclose(studied.against_float(choice), 100 * (final_error(choice.table) / own - 1))
    assert (studied.against_float(best) == 0).all()


def test_against_the_best_linear_map(studied):
    base = studied.linear.set_index("model").loc[studied.best_linear.name, "mse"]
    table = studied.chosen().table
    np.testing.assert_allclose(studied.against_linear(table), 100 * (final_error(table) / base - 1))


def test_long_horizons_have_heads_of_low_rank(small, in_process):
    longer = families.Families(small.reaching(60), whole=False)
    heads = {name: model.head_rank for name, model in longer.models.items() if model.family != "linear"}
    assert set(heads.values()) == {families.HEAD_RANK} and all(name.endswith("-k8") for name in heads)
    assert not len(longer.rivals) and (longer.integers["equal_outputs"] == 1).all()
