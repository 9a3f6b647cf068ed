"""The driver under attack: threads and coroutines that share one simulated engine, and faults in the midst of runs.

Every run has to be NumPy's; after a fault it may be a named EngineError instead, in time, and the next run has to be
right.
"""

from qatlib.board import driver
from tests.attack.driver_cases import BATCH
from tests.attack.driver_faults import faults
from tests.attack.driver_sharing import sharing


def attack(short):
    driver.BATCH = BATCH
    yield sharing(runs=150 if short else 1000)
    yield from faults(each=4 if short else 40)
