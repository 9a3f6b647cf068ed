"""A serial line that loses, doubles and flips bytes, falls silent, or ends at a board that was loaded again: forecasts
of the simulated board are NumPy's, or there is an EngineError; never a wrong number, never a wait without an end."""

import random
import time
from dataclasses import replace

import numpy as np

from qatlib.board import open_engine
from qatlib.board.sim_serial import SimLine, untouched
from qatlib.device import shipped
from qatlib.engine import EngineError
from qatlib.engine.serial_line import BOARDS, END
from qatlib.engine.serial_rtl import SerialRtl
from tests.attack.outcome import Outcome

SEED = 17
FAST = {name: replace(board, baud=board.clock_hz // 4) for name, board in BOARDS.items()}  # too fast for a wire
BOARD = FAST["ulx3s"]
WINDOWS = 24
ONE_IN = 400  # bytes
SECONDS = 120  # for a run, however many bytes are lost
HARM = {
    "lost": lambda value, rng: b"",
    "doubled": lambda value, rng: bytes([value, value]),
    "flipped": lambda value, rng: bytes([value ^ 1 << rng.randrange(8)]),
    "replaced": lambda value, rng: rng.randbytes(1),
    "an end put before": lambda value, rng: bytes([END, value]),
}


class Faults:
    """Does harm to one byte in so many, on both ways. kinds: of HARM."""

    def __init__(self, seed, one_in, kinds=tuple(HARM)):
        self.random, self.one_in, self.kinds, self.injected = random.Random(seed), one_in, kinds, 0

    def __call__(self, data, inward):
        return b"".join(map(self._byte, data))

    def _byte(self, value):
        if self.random.randrange(self.one_in):
            return bytes([value])
        self.injected += 1
        return HARM[self.random.choice(self.kinds)](value, self.random)


class Cut:
    """Nothing passes after so many bytes; or, if `again`, another board is there, as after loading it."""

    def __init__(self, line, left, again):
        self.line, self.left, self.again = line, left, again

    def __call__(self, data, inward):
        self.left -= len(data)
        if self.left < 0 and self.again:
            self.line.rtl, self.left = SerialRtl(self.line.board), 1 << 30
        return data if self.left >= 0 else b""


class Trial:
    """A board with a model, and windows with their forecasts by NumPy."""

    def __init__(self, board):
        self.line, self.model = SimLine(board), shipped.load("etth1", "point-w12-d32-h1-w2a2")
        self.rng = np.random.default_rng(SEED)
        self.counts = self.rng.integers(-30000, 30000, (WINDOWS, *self.model.window_shape)).astype(np.int16)
        self.open()

    def open(self):
        self.line.touch = untouched
        self.engine = open_engine(port=self.line)
        self.engine.load(self.model)

    def judged(self):
        """A run -> "right", "refused" or "wrong"; it took longer than SECONDS: wrong."""
        began, some = time.monotonic(), self.counts[self.rng.permutation(WINDOWS)]
        try:
            found = self.engine.run(some)
        except EngineError:
            return "refused" if time.monotonic() - began < SECONDS else "wrong"
        equal = np.array_equal(found, self.model.forward(some))
        return "right" if equal and time.monotonic() - began < SECONDS else "wrong"


def attack(short):
    wanted, cuts = (30, 2) if short else (1250, 50)
    for trial in map(Trial, FAST.values()):
        for number, kinds in enumerate([*((kind,) for kind in HARM), tuple(HARM)]):
            yield harmed(trial, kinds, SEED + number, wanted)
        yield broken_off(trial, cuts)


def harmed(trial, kinds, seed, wanted):
    faults, found = Faults(seed, ONE_IN, kinds), []
    while faults.injected < wanted:
        trial.line.touch = faults
        found.append(trial.judged())
        if found[-1] != "right":
            trial.open()
    what = f"bytes {', '.join(kinds)}" if len(kinds) == 1 else "bytes, all of these"
    return outcome(trial, what, found, f"{faults.injected} faults, one byte in {ONE_IN}; seed {seed}")


def broken_off(trial, runs):
    """The line falls silent for a while, or the board is loaded again: what comes then is an error, and after opening
    anew all is well."""
    rng, found = random.Random(SEED), []
    for number in range(runs):
        trial.line.touch = Cut(trial.line, rng.randrange(1500), number % 2)
        found.append(trial.judged())
        trial.open()
        found.append("wrong" if trial.judged() != "right" else "right")
    what = "the line cut, or the board loaded again, in mid run"
    return outcome(trial, what, found, f"half each, then right; seed {SEED}")


def outcome(trial, what, found, note):
    counted = {kind: found.count(kind) for kind in ("refused", "right", "wrong")}
    return Outcome("serial_line", f"{what}, {trial.line.board.name}", len(found), **counted, note=note)
