"""The side-by-side of kernels, as a notebook reads it."""

from qatlib.studies import microcontroller


def test_kernels_beside_others():
    for bits in (8, 4):
        frame = microcontroller.beside_others(bits)
        for core in frame.columns.levels[0]:
            assert "qatlib" in frame[core].columns and len(frame[core].columns) > 1
        assert frame.index[-1] == "all products" and frame.loc["all products"].notna().all()
        assert (frame.min() > 0.3).all() and (frame.max() < 30).all()
