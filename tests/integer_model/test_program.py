"""Codes packed into bytes."""

import numpy as np
import pytest

from qatlib.integer_model.program import pack, unpack


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (16, 64)])
def test_pack_and_unpack(bits, shape):
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = np.random.default_rng(bits).integers(low, high + 1, shape)
    codes.flat[0], codes.flat[-1] = low, high
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8 and len(packed) == (codes.size * bits + 7) // 8
    np.testing.assert_array_equal(unpack(packed, bits, shape), codes)


def test_pack_puts_the_lowest_bits_first():
    assert pack([1, -2, -1, 0], 2).tolist() == [0b00_11_10_01]
