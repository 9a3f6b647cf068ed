"""When each instruction may begin: the engine never waits for a result, so the compiler keeps the distances.

Times are cycles of issue. An issue reads codes, weights, keys and values in its own cycle, and what it makes is there
for issues `*_LATENCY` cycles later; see `overlays/engine/core.sv`. Delays at run time only lengthen distances, so a
schedule stays valid: an instruction that may be delayed (of DELAYED) is taken for one that was, since the next one has
then been fetched, and begins at once.
"""

from dataclasses import dataclass, field

import numpy as np

from qatlib.engine import isa

FETCH = 13  # cycles from one instruction's beginning to the next one's, at the least
CODE_LATENCY = 14  # to a code or key/value memory, from the first stage
OPERAND_LATENCY = 22  # to the code memory, from the third stage
OPERAND_READ = 20  # of the tables
SOFTMAX_READ = 3
SUM_LATENCY = 21  # to the residual memory
RESIDUAL_READ = 12  # after the issue
MAX_LATENCY = 17  # to the memory of largest scores
MAX_READ = 1
RECIPROCAL_LATENCY = 18
RECIPROCAL_READ = 6
ANCHOR_LATENCY = 15
ANCHOR_READ = 6  # by a sample
ANCHOR_ADD = 13  # to a forecast
DIVIDE = 10  # cycles of one divider for a row
DRAIN = 16  # from the last count's issue until it is in the output buffer
# Of instructions in turn: cycles from an issue to what it makes of the memory that is shared, from the last one to the
# next instruction, from a program's end to the next window's
TURN_RESIDUAL, TURN_SUM, TURN_KV, TURN_COUNT = 10, 16, 11, 8
TURN_DRAIN = {"matmul": 13, "attend": 13, "add": 18, "quantise": 9, "output": 9, "probability": 10, "sum": 15}
TURN_WINDOW = 4
DELAYED = ("quantise", "output")  # where samples, or room for a forecast, are not there yet


@dataclass
class Access:
    """Words of a memory, and when each is touched, in cycles after the instruction's first issue; both int (n,)."""

    memory: str
    words: np.ndarray
    times: np.ndarray


@dataclass
class Clock:
    """end: last issue so far; taken: when its instruction was."""

    end: int = 0
    taken: int = -FETCH

    def place(self, issues, stall, *, fetched=False):
        """-> first issue of the next instruction. fetched: it has been, whenever the one before was taken."""
        self.taken = self.end if fetched else max(self.end, self.taken + FETCH)
        start = max(self.end + stall, self.taken) + 1
        self.end = start + issues - 1
        return start


@dataclass
class Timeline:
    """Places instructions one after the other, by a clock with and one without delays. `ready`: per memory, when each
    word can be read, by the first."""

    depths: dict
    ready: dict = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    undelayed: Clock = field(default_factory=Clock)
    delayed: bool = False  # the last instruction
    last: dict = field(
        default_factory=lambda: {"code write": -1, "table read": -1}
    )  # use so far of what only one instruction can use

    def __post_init__(self):
        self.ready = {name: np.zeros(depth, np.int64) for name, depth in self.depths.items()}

    def place(self, fields, issues, reads, writes, *, after=0, uses=()):
        """-> (stall, cycles from the end of the instruction before to its own end). `issues`: its length in cycles.

        after: cycles that must lie between the last issue and this one; uses: (port, first, last time) of what
        instructions share, which they use one after the other, so that two never meet.
        """
        earliest = [self.clock.end + 1 + after]
        earliest += [int((self.ready[r.memory][r.words] - r.times).max()) for r in reads]
        earliest += [self.last[port] + 1 - first for port, first, _ in uses]
        stall = max(earliest) - self.clock.end - 1
        waits = self.clock.end == 0 or fields["opcode"] in DELAYED  # the first one for a window
        start = self.clock.place(issues, stall, fetched=self.delayed)
        self.delayed = waits
        for w in writes:
            np.maximum.at(self.ready[w.memory], w.words, start + w.times)
        for port, _, last in uses:
            self.last[port] = start + last
        before = self.undelayed.end
        self.undelayed.place(issues, stall)
        return stall, self.undelayed.end - before

    def restart(self):
        """-> cycles that the first instruction still has to be fetched for after the last one, when the program begins
        again."""
        return max(0, self.undelayed.taken + FETCH - self.undelayed.end)


class InTurn:
    """Instructions of which each begins when the one before is over, as those of `overlays/small`: nothing has to be
    kept apart, but a memory of one port is shared."""

    def place(self, fields, issues, *_, **__):
        """-> (stall, cycles from the end of the instruction before to its own end)."""
        if fields["opcode"] == "end":
            return 0, isa.WORDS + 1 + TURN_WINDOW
        drain = TURN_DRAIN["add" if fields.get("add") else fields["opcode"]]
        return 0, isa.WORDS + 1 + self._run(fields, issues) + drain

    @staticmethod
    def _run(fields, issues):
        """Cycles of the issues: none while a result is on its way to or from the memory of weights, nor the last of a
        result whose residual would be read as another's sum is written."""
        each = issues // (fields.get("tokens", 1) * fields.get("groups", 1))
        writes = TURN_RESIDUAL, TURN_SUM
        delays = writes[: 1 + fields.get("s_write", 0)] if fields.get("add") else ()
        delays += (TURN_KV,) if fields.get("dest") in ("keys", "values") else ()
        delays += (TURN_COUNT,) if fields["opcode"] == "output" else ()
        now, taken = 0, set()
        for issue in range(issues) if delays else ():
            done = issue % each == each - 1
            while now in taken or (done and any(now + delay in taken for delay in delays)):
                now += 1
            taken |= {now + delay for delay in delays} if done else set()
            now += 1
        return now or issues

    def restart(self):
        return 0
