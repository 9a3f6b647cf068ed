"""Who has a device: one thread or coroutine at a time, in the order in which they came."""

import asyncio
import threading
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from qatlib.engine.registers import EngineError

LOOK = 0.5  # seconds between two looks of a waiting thread whether the one before it still lives
POLL = 0.001  # seconds between two of a waiting coroutine whether it is its turn


@dataclass(eq=False)
class Turn:
    """A place in the queue. task: of a coroutine that may give way to others while it has the device.

    kept: the driver that keeps the device until its `wait`, after `start` by hand; idle: it is kept, and nobody is at
    work there.
    """

    thread: threading.Thread
    task: asyncio.Task | None
    doing: str
    kept: object = None
    idle: bool = False
    joined: float = 0.0  # when, by the monotonic clock

    @property
    def lost(self):
        """Whether who has it can no longer give it back."""
        return not self.thread.is_alive() or (self.task is not None and self.task.done())

    def __str__(self):
        task = f", task {self.task.get_name()!r}" if self.task else ""
        kept = ", which called start and not yet wait" if self.idle else ""
        return f"thread {self.thread.name!r}{task}, {self.doing}{kept}"


class Turns:
    """The queue of one device; its first has the device."""

    def __init__(self):
        self._queue, self._changed = deque(), threading.Condition()
        self._passed = self._promised = 0.0

    def promise(self, seconds):
        """From who has the device: by then it will have given it back, or promised again."""
        self._promised = time.monotonic() + seconds

    @contextmanager
    def taken(self, doing, timeout, *, resumes=None):
        """-> Turn. Set `kept` to leave the device kept. resumes: the driver that may go on with what it keeps, from any
        thread.

        EngineError where the device is not given back within `timeout` seconds, nor by the time promised, or never
        could be.
        """
        turn = Turn(threading.current_thread(), None, doing)
        try:
            turn = self._join(turn, resumes)
            while not self._is_first(turn, timeout, LOOK):
                pass
            self.promise(2 * timeout)
            yield turn
        finally:
            self._leave(turn)

    @asynccontextmanager
    async def taken_async(self, doing, timeout, *, resumes=None):
        """`taken` for a coroutine."""
        turn = Turn(threading.current_thread(), asyncio.current_task(), doing)
        try:
            turn = self._join(turn, resumes)
            while not self._is_first(turn, timeout, 0):
                await asyncio.sleep(POLL)
            self.promise(2 * timeout)
            yield turn
        finally:
            self._leave(turn)

    def _join(self, turn, resumes):
        """-> the turn in the queue to wait for: this one, or one that is kept, for more to be done with the device."""
        with self._changed:
            self._drop_lost()
            first = self._queue[0] if self._queue else None
            if first and first.idle and (first.thread is turn.thread or (resumes and first.kept is resumes)):
                first.thread, first.task, first.doing, first.idle = turn.thread, turn.task, turn.doing, False
                return first
            if first and not first.task and first.thread is turn.thread:
                self._queue[0] = turn  # that one was interrupted before it could leave: its thread is here
            elif turn.task:
                self._queue.append(turn)
            else:
                self._queue.insert(self._place_before_own_tasks(turn), turn)
            turn.joined = time.monotonic()
            return turn

    def _place_before_own_tasks(self, turn):
        """A thread that waits cannot go on with its coroutines: it goes before them, and not at all where one has the
        device."""
        place = next((i for i, t in enumerate(self._queue) if t.task and t.thread is turn.thread), len(self._queue))
        if self._queue and place == 0:
            raise EngineError(
                f"the engine is held by {self._queue[0]}, which cannot go on while its thread waits: await it first"
            )
        return place

    def _drop_lost(self):
        while self._queue and self._queue[0].lost:
            self._queue.popleft()

    def _is_first(self, turn, timeout, wait):
        """Whether it has the device; where not, after `wait` seconds or a change. EngineError where that takes too
        long."""
        with self._changed:
            self._drop_lost()
            first = self._queue[0]
            if first is not turn:
                if time.monotonic() > max(self._promised, max(turn.joined, self._passed) + timeout):
                    raise EngineError(f"the engine is held by {first}; waited {timeout:g} s")
                self._changed.wait(min(wait, timeout))
            return first is turn

    def _leave(self, turn):
        with self._changed:
            if turn.kept:
                turn.idle, self._promised = True, 0.0
            elif turn in self._queue:
                self._queue.remove(turn)
                self._passed = time.monotonic()
            self._changed.notify_all()
