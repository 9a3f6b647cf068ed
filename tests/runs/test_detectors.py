"""What is chosen to detect faults by, and how it is judged."""

import numpy as np
import pytest

from qatlib.data.watched import Watched
from qatlib.runs import detectors
from qatlib.runs.detectors import Judged, Network


@pytest.fixture(scope="module")
def pump():
    """A wave in two channels that belong together; in the last rows the second one goes its own way."""
    rng, time = np.random.default_rng(3), np.arange(1200)
    wave = np.sin(time / 9)
    values = np.stack([wave, 2 * wave], axis=1) + rng.normal(0, 0.05, (1200, 2))
    faulty = time >= 1000
    values[faulty, 1] *= -1
    return Watched("pump", ("a", "b"), values, np.array([0.001, 0.001]), faulty, (600, 800, 1200))


@pytest.fixture(scope="module")
def studied(pump, tmp_path_factory, in_process):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qatlib.system.paths.BUILD", tmp_path_factory.mktemp("build"))
        choice, tried = detectors.choose([pump], [Network("linear", 8, 2), Network("linear", 8, 4)])
        yield choice, tried, {w: Judged(choice.network, pump, w, 0) for w in ((8, 8), (4, 4), None)}


def test_the_choice_is_the_best_on_validation(studied):
    choice, tried, _ = studied
    assert len(tried) == 2 * len(detectors.SMOOTHINGS)
    assert choice.f1_validation == max(t.f1_validation for t in tried) > 0.5


def test_it_finds_the_fault(studied):
    choice, _, judged = studied
    for one in judged.values():
        scores, flags = one.on_test(choice.smoothing)
        assert detectors.f1(flags, one.truth) > 0.8 and np.array_equal(flags, scores > 1)


def test_the_threshold_is_of_sound_rows_that_training_has_not_seen(studied, pump):
    choice, _, judged = studied
    one = judged[4, 4]
    detector = one.detector(choice.smoothing)
    sound, _ = detector.detect(pump.counts[600 - 7 : 800])
    assert detector.threshold == int(detectors.MARGIN * sound.max())
    assert one.equal_outputs == 1 and one.size_bytes == detector.size_bytes < judged[None].size_bytes


def test_one_model_gives_the_same_flags(studied, pump):
    choice, _, judged = studied
    one = judged[4, 4]
    _, flags = one.detector(choice.smoothing).detect(pump.counts[800 - 7 :])
    assert np.array_equal(flags, one.on_test(choice.smoothing)[1])


def test_measures():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 0, 1, 1], bool)
    flags = np.array([1, 0, 0, 0, 0, 1, 1, 0, 0, 0], bool)
    found = detectors.measures(flags.astype(float), flags, truth)
    assert found["f1"] == pytest.approx(2 * 2 / 8) and found["far"] == 1 / 5 and found["mar"] == 3 / 5
    assert found["auc_pr"] == pytest.approx(2 / 3 * 2 / 5 + 5 / 10 * 3 / 5)  # precision at each of the two recalls
    assert found["mar_at_far20"] == 3 / 5
    assert found["delay"] == 1 and detectors.f1(flags & False, truth & False) == 0


def test_a_single_channel(studied, pump):
    alone = Watched("alone", ("a",), pump.values[:, :1], pump.resolution[:1], pump.faulty, pump.bounds)
    for network in (Network("linear", 8, 8), Network("linear", 8, 8, ahead=True), Network("patch", 8, 8, ahead=True)):
        for width in ((4, 4), None):
            one = Judged(network, alone, width, 0)
            scores, flags = one.on_test(2)
            assert len(scores) == len(flags) == 400
        assert one.detector(2).window_shape == (8,)
