"""Distances between instructions that hold whatever delays the engine meets."""

import numpy as np
import pytest

from qatlib.engine import isa
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
    timeline.place({"opcode": "matmul"}, 20, [], [])
    timeline.place({"opcode": opcode}, 1, [], access(0, s.CODE_LATENCY))
    assert timeline.place({"opcode": opcode}, 1, [], access(1, 0)) == (0, s.FETCH)
    assert timeline.place({"opcode": "matmul"}, 1, access(0, 0), []) == (stall, max(stall + 1, s.FETCH))


def test_cycles_are_those_without_delays():
    timeline = s.Timeline({"code": 1})
    assert [timeline.place({"opcode": "quantise"}, issues, [], []) for issues in (30, 1, 1)] == [
        (0, 30),
        (0, 1),
        (0, s.FETCH),
    ]


def test_in_turn_a_result_on_its_way_to_the_shared_memory_holds_the_next_issue_up():
    def cycles(opcode, issues, **fields):
        stall, found = s.InTurn().place({"opcode": opcode, "tokens": 1, "groups": issues, **fields}, issues)
        return found - isa.WORDS - 1 - s.TURN_DRAIN["add" if fields.get("add") else opcode] if stall == 0 else None

    assert cycles("matmul", 40, dest="codes") == 40
    assert cycles("matmul", 11, dest="keys") == 11  # the first is written behind the last issue
    assert cycles("matmul", 12, dest="keys") == 12 + 11  # a write a cycle, of all that are under way
    assert cycles("matmul", 10, add=1) == 10 and cycles("matmul", 11, add=1) == 21
    assert cycles("matmul", 7, add=1, s_write=1) > cycles("matmul", 7, add=1)  # one's sum, the other's residual
    assert s.InTurn().place({"opcode": "end"}, 1) == (0, isa.WORDS + 1 + s.TURN_WINDOW)
