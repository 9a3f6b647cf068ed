"""Classifiers: labels and scores, and what is none."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import ProgramError
from qatlib.mcu import compiled
from tests import several_channels
from tests.several_channels import CLASSIFIERS


@pytest.fixture(params=CLASSIFIERS.values(), ids=CLASSIFIERS.keys())
def model(request):
    return request.param


def test_scores_are_the_codes_of_the_head_and_labels_their_first_highest(model):
    counts = several_channels.windows(model, 0, 40)
    labels, scores = model.classify(counts)
    zero = model.tensors[model.operations[-1].inputs[0]].zero_point
    assert scores.shape == (40, len(model.labels)) and scores.dtype == np.int16
    assert np.array_equal(scores, model.output_codes(counts).reshape(scores.shape) - zero)
    assert [row.tolist().index(max(row)) for row in scores] == labels.tolist()
    assert any((row == row.max()).sum() > 1 for row in scores)  # equals occur


def test_c_gives_the_same(model):
    counts = several_channels.windows(model, 1, 40)
    for mine, its in zip(model.classify(counts), compiled(model).classify(counts), strict=True):
        assert np.array_equal(mine, its)


def test_a_file_keeps_it(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = IntegerModel.load(tmp_path / "m.safetensors")
    assert (again.task, again.labels) == ("classify", model.labels)
    assert again.describe().splitlines()[0].count(model.labels[0]) == 1


def test_sensor_units_give_names(model):
    counts = several_channels.windows(model, 2, 5)
    names, scores = model.predict(counts * model.resolution)
    assert names.tolist() == [model.labels[i] for i in model.classify(counts)[0]]
    name, one = model.predict(counts[0] * model.resolution)
    assert name == names[0] and np.array_equal(one, scores[0])


def test_a_forecaster_does_not_classify():
    model = several_channels.MODELS["two independent"]
    for other in (model, compiled(model)):
        with pytest.raises(ValueError, match="does not classify: its task is forecast"):
            other.classify(several_channels.windows(model, 0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "guess"}, "task 'guess': this qatlib knows forecast, classify, detect"),
        ({"task": "detect"}, "threshold None: a detector has a whole number, the others have None"),
        ({"task": "forecast"}, "a model to forecast has no labels"),
        ({"threshold": 5}, "threshold 5: a detector has a whole number, the others have None"),
        ({"labels": ("a", "b")}, "a label for each of 2 to 64 scores"),
        ({"labels": ("a", "b", "a")}, "none twice"),
        ({"labels": ("a", "b", "*/")}, "labels .* are not of 1 to 100 letters"),
        ({"labels": ("a", "b", 3)}, "labels .* are not of"),
        ({"targets": (1,)}, r"its targets are \(0,\)"),
    ],
)
def test_what_is_no_classifier_is_not_made(change, message):
    with pytest.raises(ProgramError, match=message):
        replace(CLASSIFIERS["three channels"], **change)


def test_scores_are_not_scaled():
    model = CLASSIFIERS["three channels"]
    with pytest.raises(ProgramError, match="scores are codes as they are"):
        replace(model, arrays=model.arrays | {"output.n": np.array([16], np.uint8)})
