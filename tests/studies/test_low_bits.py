"""The recipe's variants and the tables made of them."""

from dataclasses import replace

import pandas as pd
import pytest

from qatlib.runs.experiment import Experiment
from qatlib.studies import low_bits, recipes


@pytest.fixture(scope="module")
def full(sensor_csv, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qatlib.system.paths.BUILD", tmp_path_factory.mktemp("build"))
        yield Experiment("full", str(sensor_csv), "value", context=48, horizon=6)


def test_every_variant_changes_one_thing(full):
    """Each is another run than the recipe's, and differs from it in one field of the run alone (its teachers, where
    distillation ends)."""
    base = recipes.run(full, recipes.WIDTHS["W3A3"], 1)
    assert base == recipes.run(full, recipes.WIDTHS["W3A3"], 1, recipes.VARIANTS[0])
    for variant in recipes.VARIANTS[1:]:
        other = recipes.run(full, recipes.WIDTHS["W3A3"], 1, variant)
        assert other.key(full.dataset) != base.key(full.dataset), variant.label
        differing = {
            name
            for name in ("model", "quantization", "qat_recipe", "teachers")
            if getattr(other, name) != getattr(base, name)
        }
        assert len(differing - {"teachers"}) == (0 if variant.own_teacher else 1), variant.label
        fields = [f for f in vars(base.qat_recipe) if getattr(other.qat_recipe, f) != getattr(base.qat_recipe, f)]
        assert len(fields) <= 1 or "notebook" in variant.label, variant.label
        assert replace(other, model=base.model).parents[0] == base.parents[0]


def test_a_context_that_the_data_do_not_have_is_left_out(full, capsys):
    long = recipes.Variant("long", context=20)
    assert recipes._has_windows(full, recipes.VARIANTS[-1]) and not recipes._has_windows(full, long)
    assert "left out, long: sensor: too few rows" in capsys.readouterr().out


def test_teachers_are_the_float_models_of_all_seeds(full):
    run = recipes.run(full, recipes.WIDTHS["W2A2"], 7)
    assert [p.seed for p in run.parents] == [7, 0, 1, 2, 3, 4] and {p.method for p in run.parents} == {"float"}
    assert recipes.seeds(full, "W4A4") == recipes.seeds(full, "W2A2") == full.seeds


def test_a_teacher_of_another_shape(full):
    small = replace(full.default_model, d_model=4)
    run = replace(recipes.run(full, recipes.WIDTHS["W2A2"], 0), model=small, teacher_model=full.default_model)
    assert [p.model for p in run.parents] == [small, *[full.default_model] * 5]
    assert run.key(full.dataset) != replace(run, teacher_model=None).key(full.dataset)


def table(rows):
    columns = ["variant", "width", "seed", "mse_validation", "mse", "mse_integer", "size_bytes"]
    return pd.DataFrame(rows, columns=columns).assign(model="m")


def test_worth_is_paired_and_ranking_by_validation():
    floats = pd.DataFrame(
        {"model": "m", "seed": [0, 1], "mse": [1.0, 2.0], "mse_validation": [4.0, 4.0], "mse_integer": float("nan")}
    )
    runs_ = table(
        [("a", "W4A4", s, 4.4, 9.0, base * 1.1, 50) for s, base in ((0, 1.0), (1, 2.0))]
        + [("b", "W4A4", s, 4.2, 9.0, base * 1.2, 50) for s, base in ((0, 1.0), (1, 2.0))]
    )
    frame = low_bits.worth(runs_.assign(model="another shape"), floats).set_index("variant")
    assert frame["change"].tolist() == pytest.approx([10, 20]) and frame["low"].tolist() == pytest.approx([10, 20])
    ranked = low_bits.ranking(frame.reset_index())
    assert ranked["variant"].tolist() == ["b", "a"] and ranked["mean"].tolist() == pytest.approx([5, 10])
    axes = low_bits.plot_worth(frame.reset_index())
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]


def test_other_data_by_the_same_grid(full):
    other = full.on("jfk-weather")
    assert other.dataset.name == "jfk-weather" and other.seeds == full.seeds and full.dataset.name == "sensor"
