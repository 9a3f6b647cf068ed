"""The kernels of known cores: proofs at export, inner loops, and the same integers."""

from collections import Counter

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.mcu import emulate, export
from tests.attack.exported import exported

SHIPPED = "jfk-weather"
PAGE = 4096  # bytes, at whose end the emulator ends a block

LOOPS = {  # target, model: instructions of the loop that is run most, as its comment in C counts them
    ("cortex-m4", "w8a8"): 2 * 11 + 2,
    ("cortex-m33", "w4a4"): 2 * 11 + 2,
    ("rv32imc", "w4a4"): 4 * (42 + 1) + 3,
    ("rv32imc", "w8a8"): 2 * 68 + 5,
}


@pytest.mark.parametrize(("target", "width"), LOOPS)
def test_inner_loops_take_what_their_comments_count(target, width):
    import unicorn

    model = shipped.load(SHIPPED, f"patch-c336-d16-{width}")
    machine, taken = emulate._MACHINES[target](emulate.Firmware(model, target)), Counter()
    machine.engine.hook_add(unicorn.UC_HOOK_BLOCK, lambda _, address, size, __: taken.update([(address, size)]))
    machine.forecast(shipped.windows(SHIPPED)[0][0, -model.context :])
    assert most_in_a_loop(taken, machine.lengths) == LOOPS[target, width]


def most_in_a_loop(taken, lengths):
    """Instructions of the block that is run most; with what it goes on with where a page of memory splits it."""
    most = start, size = max(taken, key=lambda block: taken[block] * lengths[block])
    before = [block for block in taken if sum(block) == start and start % PAGE < 4]
    behind = [block for block in taken if block[0] == start + size and block[0] % PAGE < 4]
    return sum(lengths[max(blocks, key=taken.get)] for blocks in ([most], before, behind) if blocks)


@pytest.mark.parametrize("kernels", ["cortex-m4", "rv32"])
def test_kernels_of_a_core_have_reasons_to_go_the_plain_way(kernels):
    """Random models have multipliers and widths that break every proof; trained ones none."""
    random = [fit for seed in range(8) for fit in export.program_of(random_model(seed), kernels).fits.values()]
    trained = export.program_of(shipped.load(SHIPPED, "patch-c336-d16-w4a4"), kernels).fits.values()
    assert None in random and any(fit and fit.columns == 0 for fit in random) and None not in trained


@pytest.mark.parametrize("seed", range(28, 36))
def test_words_of_two_outputs_on_this_computer(seed):
    """rv32.c without its assembly, under every compiler."""
    model = random_model(seed)
    counts = np.ascontiguousarray(extreme_windows(model, seed, 12))
    np.testing.assert_array_equal(exported(model, counts, "rv32"), model.forward(counts))
