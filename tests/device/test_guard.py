"""The guard: what it mends, what it flags, in NumPy and in C; how much it finds on real data."""

import ctypes
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qatlib.data import faults
from qatlib.device import guard, shipped
from qatlib.device.guard import DRIFT, GAP, JUMP, MISSING, NOISY, RANGE, REPAIRED, STUCK, Guard, Limits
from qatlib.integer_model import kernels
from qatlib.mcu import export, export_c
from qatlib.system import toolchain
from tests import several_channels

LIMITS = Limits(low=-1000, high=1000, jump=100, spike=40, stuck=5, drift=300, noise=600)
GUARD = Guard(context=16, day=4, channels=(LIMITS,))


def in_c(guard, counts, source):
    """What the C of a guard makes of windows: mended in place, and flags, (n,) or (n, channels)."""
    source.write_text("#include <stdint.h>\n" + export._guard("a", guard))
    look, several = toolchain.library(source, "-std=c99", "-O2").a_guard, counts.ndim > 2
    look.argtypes, look.restype = [ctypes.c_void_p] * (1 + several), None if several else ctypes.c_uint8
    if not several:
        return counts, [look(row.ctypes.data) for row in counts]
    flags = np.full((len(counts), counts.shape[2]), 255, np.uint8)
    for row, found in zip(counts, flags):
        look(row.ctypes.data, found.ctypes.data)
    return counts, flags


def window(*changes):
    """A calm window of 16 samples, some of them changed: (index, count)."""
    counts = np.array([0, 3, 1, 4, 2, 5, 3, 6, 4, 7, 5, 8, 6, 9, 7, 10], np.int16)
    for index, value in changes:
        counts[index] = value
    return counts[None]


def seen(counts):
    mended, flags = GUARD.check(counts)
    return mended[0], flags[0]


def test_a_sound_window_passes_unchanged():
    mended, flags = seen(window())
    assert flags == 0 and np.array_equal(mended, window()[0])


def test_gaps_are_mended_on_a_straight_line_that_rounds_half_up():
    mended, flags = seen(window((4, -5), (5, MISSING), (6, -10)))
    assert flags == REPAIRED and mended[5] == -7  # -7.5
    mended, flags = seen(window(*((i, MISSING) for i in range(3))))  # the first samples: nothing before them
    assert flags == REPAIRED and (mended[:3] == 4).all()
    mended, flags = seen(window((15, MISSING)))  # the newest
    assert flags == REPAIRED and mended[15] == 7


@pytest.mark.parametrize("first", [0, 4, 10])
def test_a_long_gap_is_flagged_and_left(first):
    missing = window(*((i, MISSING) for i in range(first, first + 6)))
    mended, flags = seen(missing)
    assert flags == GAP and np.array_equal(mended, missing[0])


def test_nothing_at_all():
    assert seen(np.full((1, 16), MISSING, np.int16))[1] == GAP


def test_a_single_outlier_is_mended():
    mended, flags = seen(window((6, 900)))
    assert flags == REPAIRED and mended[6] == 6  # between 5 and 6


@pytest.mark.parametrize(
    ("counts", "flag"),
    [
        (window(*((i, 200 + i) for i in range(8, 16))), JUMP | DRIFT),
        (window((15, 150)), JUMP),  # the newest sample has no right neighbour to tell an outlier from a step
        (window(*((i, 8) for i in range(4, 9))), STUCK),
        (window(*((i, 90 * min(i, 4)) for i in range(16))), DRIFT | STUCK),
        (window() + np.int16(1001), RANGE),
        (window(*((i, 22 * (i % 2)) for i in range(1, 16))), NOISY),
    ],
)
def test_what_is_flagged(counts, flag):
    assert seen(counts)[1] == flag


def test_a_guard_is_for_windows_of_one_length():
    for wrong in (window()[:, :8], window()[0], window() / 10):
        with pytest.raises(ValueError, match=r"this guard looks at int16 counts \(n, 16\)"):
            GUARD.check(wrong)
    for unsound in ((), (window((3, MISSING)),), (window() / 10,)):
        with pytest.raises(ValueError, match="a guard needs sound windows"):
            Guard.fit(*unsound, day=4)
    with pytest.raises(ValueError, match=r"windows of shapes \(16,\) and \(8,\): a guard is for windows of one"):
        Guard.fit(window(), window()[:, :8], day=4)
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.raises(ValueError, match="guard is for windows of 16 samples, the model for 336"),
    ):
        export_c(shipped.load("jfk-weather", "patch-c336-d16-w2a2"), Path(folder), guard=GUARD)
    assert Guard.fit(np.array([[1, 5]], np.int16), day=1).check(np.array([[1, 5]], np.int16))[1] == 0


def test_every_channel_has_thresholds_and_flags_of_its_own():
    sound = np.stack([window(), 50 * window(), window() - np.int16(900)], axis=-1)
    fitted = Guard.fit(sound, day=4)
    assert fitted.channels == tuple(Guard.fit(sound[:, :, i], day=4).channels[0] for i in range(3))
    counts = np.concatenate([sound] * 4)
    counts[1, 6, 0], counts[2, 3:9, 1], counts[3, 5, 2], counts[3, 10, 0] = 900, MISSING, MISSING, 900
    mended, flags = fitted.check(counts)
    assert mended.shape == counts.shape and mended.dtype == np.int16 and flags.dtype == np.uint8
    mends = REPAIRED | STUCK  # between two neighbours that differ by one, the middle is one of them
    np.testing.assert_array_equal(flags, [[0, 0, 0], [mends, 0, 0], [0, GAP, 0], [mends, 0, mends]])
    for i in range(3):
        alone = Guard(16, 4, fitted.channels[i : i + 1]).check(counts[:, :, i])
        np.testing.assert_array_equal(mended[:, :, i], alone[0])
        np.testing.assert_array_equal(flags[:, i], alone[1])
    assert fitted.check(counts[:0])[1].shape == (0, 3)
    for wrong in (counts[:, :, :2], counts[:, :, 0], counts[:, :8], counts / 10):
        with pytest.raises(ValueError, match=r"this guard looks at int16 counts \(n, 16, 3\)"):
            fitted.check(wrong)
    for unsound in (sound[:, :, :1], sound[None], np.where(sound == 8, MISSING, sound).astype(np.int16)):
        with pytest.raises(ValueError, match=r"several channels \(n, context, channels\), without a missing sample"):
            Guard.fit(unsound, day=4)
    with pytest.raises(ValueError, match=r"shapes \(16, 3\) and \(16, 2\): a guard is for windows of one"):
        Guard.fit(sound, sound[:, :, :2], day=4)


@pytest.mark.parametrize("channels", range(1, 8))
def test_c_equals_numpy_of_any_number_of_channels(channels, tmp_path):
    """Edges, walks, constants, gaps of every length, and thresholds that let some pass and not others."""
    rng = np.random.default_rng(channels)
    small = rng.normal(0, 30, (60, 16)).astype(np.int16)
    counts = np.concatenate([several_channels.windows(GUARD, channels, 60), small])
    counts = np.stack([rng.permutation(counts) for _ in range(channels)], axis=-1)
    for row in counts[::2]:
        first, length = rng.integers(0, 16, (2, channels))
        for i in range(channels):
            row[first[i] : first[i] + length[i], i] = MISSING
    limits = tuple(replace(LIMITS, spike=15 * i + 20, stuck=i + 2, noise=900 * i + 600) for i in range(channels))
    several = Guard(16, 4, limits)
    counts = counts[:, :, 0].copy() if channels == 1 else counts
    mended, flags = several.check(counts)
    found, flags_in_c = in_c(several, counts.copy(), tmp_path / "guard.c")
    np.testing.assert_array_equal(found, mended)
    np.testing.assert_array_equal(flags_in_c, flags)
    assert np.bitwise_or.reduce(flags, axis=None) == 127 and (mended != counts).any()


def test_a_guard_of_several_channels_beside_its_model(tmp_path):
    model = several_channels.MODELS["five mixed, two forecast"]
    counts = several_channels.windows(model, 1, 30)
    guarded = Guard(model.context, 4, (LIMITS, replace(LIMITS, spike=5), LIMITS, replace(LIMITS, jump=7), LIMITS))
    source, header = export_c(model, tmp_path, "model", guard=guarded)
    for told in ("void model_guard(int16_t *counts, uint8_t *flags);", "counted from 0: 1, 3."):
        assert told in header.read_text()
    library = toolchain.library(source, "-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    mended, flags, found = *guarded.check(counts), np.zeros((30, 5), np.uint8)
    for row, of_row in zip(counts, found):
        library.model_guard(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(of_row.ctypes.data))
    np.testing.assert_array_equal(counts, mended)
    np.testing.assert_array_equal(found, flags)
    with pytest.raises(ValueError, match=r"the guard is for 5 channel\(s\), the model for 2; fit it"):
        export_c(several_channels.mixed(4, 2, (0,)), tmp_path, guard=guarded)


def test_thresholds_let_through_what_they_were_made_from():
    sound = shipped.windows("jfk-weather")[0]
    fitted = Guard.fit(sound)
    mended, flags = fitted.check(sound)
    assert not flags.any() and np.array_equal(mended, sound)
    for day in (200, 0, -1, 2.5, "24"):
        with pytest.raises(ValueError, match=f"of 1 to 168 samples in these windows, not {day!r}"):
            Guard.fit(sound, day=day)
    assert Guard.fit(sound, day=np.int64(24)) == fitted


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "context": (1, (1 << 16) + 1, 16.0),
        "day": (0, 9, True),
        "channels": ((), [LIMITS], (LIMITS, None), (LIMITS,) * 65),
        "low": (-32769, 32768, None),
        "high": (-1001, 32768, "1000"),
        "jump": (-1, 1 << 31, float("nan")),
        "spike": (-1, 1 << 31, 40.0),
        "stuck": (1, 1 << 31, False),
        "drift": (-1, 1 << 31, 10**5000),
        "noise": (-1, 1 << 63, [600]),
    }.items(),
)
def test_a_guard_that_cannot_work_is_refused(field, values):
    for value in values:
        with pytest.raises(ValueError, match=f"a guard's {field} must"):
            replace(GUARD if hasattr(GUARD, field) else LIMITS, **{field: value})


def test_the_widest_guard_is_the_same_in_c(tmp_path):
    """Sums of the longest day, and thresholds at the ends of their ranges, fit the integers of C."""
    widest = Limits(kernels.COUNT_MIN, kernels.COUNT_MAX, *[(1 << 31) - 1] * 4, (1 << 63) - 1)
    half, odd = np.arange(1 << 16) < 1 << 15, np.arange(1 << 16) % 2 == 1
    counts = np.stack([np.where(side, 32767, -32767) for side in (half, ~half, odd)]).astype(np.int16)
    cases = {0: widest, DRIFT: replace(widest, drift=(1 << 15) * 65534 - 1), NOISY: replace(widest, noise=1 << 32)}
    for expected, limits in cases.items():
        wide = Guard(1 << 16, 1 << 15, (limits,))
        flags = wide.check(counts)[1]
        np.testing.assert_array_equal(in_c(wide, counts.copy(), tmp_path / f"{expected}.c")[1], flags)
        assert (flags & ~REPAIRED).max() == expected


@pytest.mark.parametrize("kind", faults.KINDS)
def test_c_equals_numpy(kind):
    sound, _ = shipped.windows("jfk-weather")
    limits, rng = Guard.fit(sound), np.random.default_rng(1)
    strengths = (2, 5, 6, 30) if kind in ("stuck", "dropout") else (500, 5000, 30000)
    counts = np.concatenate([faults.KINDS[kind](sound[:80], s, rng) for s in strengths])
    counts[::7, ::50] = MISSING
    mended, flags = limits.check(counts)
    with tempfile.TemporaryDirectory() as folder:
        source, header = export_c(
            shipped.load("jfk-weather", "patch-c336-d16-w2a2"), Path(folder), "model", guard=limits
        )
        assert "uint8_t model_guard(int16_t *counts);" in header.read_text()
        library = toolchain.library(source, "-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    library.model_guard.argtypes, library.model_guard.restype = [ctypes.c_void_p], ctypes.c_uint8
    found = [library.model_guard(row.ctypes.data) for row in counts]
    np.testing.assert_array_equal(found, flags)
    np.testing.assert_array_equal(counts, mended)
    assert len(set(found)) > 1


def test_faults_are_found_on_etth1(etth1):
    """Thresholds from train and validation, faults and clean windows of the test split."""
    sound = [etth1.windows(split, 336, 24).counts for split in ("train", "validation", "test")]
    limits, rng = Guard.fit(*sound[:2]), np.random.default_rng(0)
    assert (limits.check(sound[2])[1] != 0).mean() <= 0.01
    for kind, least in faults.AT_LEAST.items():
        faulty = faults.KINDS[kind](sound[2], faults.strength(kind, least, etth1), rng)
        assert (limits.check(faulty)[1] != 0).mean() >= 0.95, kind


def test_faults_stay_within_counts():
    counts = np.full((3, 16), 32_000, np.int16)
    for kind, fault in faults.KINDS.items():
        faulty = fault(counts, 8 if kind in ("stuck", "dropout") else 60_000, np.random.default_rng(0))
        assert faulty.dtype == np.int16 and faulty.max() <= kernels.COUNT_MAX
        assert (faulty == guard.MISSING).any() == (kind == "dropout")
