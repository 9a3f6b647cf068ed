"""Distances between instructions that hold whatever delays the engine meets."""

import numpy as np
import pytest

from qatlib.engine import schedule as s


def access(word, time):
    return [s.Access("code", np.array([word]), np.array([time]))]


@pytest.mark.parametrize(
    ("opcode", "stall"), [("matmul", 0), ("quantise", s.CODE_LATENCY - 2), ("output", s.CODE_LATENCY - 2)]
)
def test_no_distance_rests_on_a_fetch_that_may_be_over(opcode, stall):
    """The third instruction reads what the first one makes. Between two products lies a fetch; while an instruction
    waits for the bus, the next one is fetched and then begins at once."""
    timeline = s.Timeline({"code": 2})
    timeline.place("matmul", 20, [], [])
    timeline.place(opcode, 1, [], access(0, s.CODE_LATENCY))
    assert timeline.place(opcode, 1, [], access(1, 0)) == (0, s.FETCH)
    assert timeline.place("matmul", 1, access(0, 0), []) == (stall, max(stall + 1, s.FETCH))


def test_cycles_are_those_without_delays():
    timeline = s.Timeline({"code": 1})
    assert [timeline.place("quantise", issues, [], []) for issues in (30, 1, 1)] == [(0, 30), (0, 1), (0, s.FETCH)]
