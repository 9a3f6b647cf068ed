"""Energies and times against their sources, by hand."""

import numpy as np
import pandas as pd
import pytest

from qatlib.studies import cost

COUNTS = {"rv32imc": 400_000, "cortex-m4": 250_000, "xc7s15": 1_500}


def test_instructions_become_seconds_and_millijoules():
    low, typical, high = cost.RV32.seconds(160_000_000)
    assert (low, typical, high) == pytest.approx((1.0, 1.4, 2.0))
    assert tuple(cost.RV32.millijoules(160_000_000)) == pytest.approx((76, 1.4 * 84, 184))
    assert cost.FPGA.seconds(1_500).typical == pytest.approx(15e-6)  # cycles, no instructions


def test_a_cycle_of_the_cortex_m33_takes_what_was_published():
    """MLPerf Tiny v1.3, NUCLEO_U385RG_Q: uJ an inference over cycles at 96 MHz, of keyword spotting and of anomaly
    detection by their median throughputs."""
    low, _, high = (1e9 * power / cost.M33.clock / 1e6 for power in cost.M33.active)  # pJ
    assert low == pytest.approx(245.3412e6 * 20.703 / 96e6, rel=0.01)
    assert high == pytest.approx(31.8347e6 * 184.851 / 96e6, rel=0.01)
    ways = cost.per_request(COUNTS | {"cortex-m33": COUNTS["cortex-m4"]}, 60)
    assert ways[cost.M33.name].typical < ways[cost.M4.name].typical


def test_waiting_wins_below_the_published_half_second():
    """arXiv 2407.12027: 499 ms."""

    def cheaper(period):
        options = cost.per_request(COUNTS, period)
        return options["XC7S15, waits idle"].typical < options["XC7S15, switched off between"].typical

    assert cheaper(0.49) and not cheaper(0.51)


def test_what_cannot_keep_up_is_left_out():
    assert not any(name.startswith("cloud") for name in cost.per_request(COUNTS, 0.1))
    assert {"cloud over Wi-Fi"} == {name for name in cost.per_request(COUNTS, 5) if name.startswith("cloud")}
    assert "STM32L4 (Cortex-M4)" not in cost.per_request(COUNTS | {"cortex-m4": 10**9}, 1)


def test_ranges_are_in_order_and_grow_with_the_period():
    short, long = (cost.per_request(COUNTS, period) for period in (60, 3600))
    assert short.keys() == long.keys() and len(short) == 6
    for name, values in short.items():
        assert values.low <= values.typical <= values.high
        assert long[name].typical > values.typical


def test_bytes_of_a_day():
    assert cost.bytes_a_day(3600) == 24 * 400


def test_energy_on_boards_is_power_by_time_and_grows_with_the_cells():
    table = pd.DataFrame(
        {
            "board": ["ulx3s", "ulx3s", "icebreaker"], "device": "chip", "model": "default", "cycles": [9, 6e4, 4e4],
            "clock_mhz": [60.0, 60.0, 20.0], "line_baud": [np.nan, 1e6, 1e6], "lut": [24_288, 24_288, 3_473],
        }
    )  # fmt: skip
    found = cost.on_boards(table).set_index("board")
    assert list(found.latency_us) == pytest.approx([1000, 2000])
    assert found.energy_uj_high["ulx3s"] == pytest.approx(77 * 1.1 + 16 * 2.5 + 5.52 * 60)
    assert found.energy_uj_typical["icebreaker"] == pytest.approx(2 * (9.5 * 20 / 24 + 0.1386 * 1.219))
    assert (found.energy_uj_low < found.energy_uj_typical).all() and found.source.str.contains("measured").all()
    larger = cost.on_boards(table.assign(lut=table.lut * 2)).set_index("board")
    assert (larger.energy_uj_typical > found.energy_uj_typical).all()
