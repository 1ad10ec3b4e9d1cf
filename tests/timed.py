"""How long a piece of work takes, whatever else the process and the machine do."""

import gc
import time
from collections.abc import Callable

TRIES = 3


def least_seconds(work: Callable[[], object]) -> float:
    """Seconds of the processor that a piece of work takes: the least of some tries, the collector's passes left out."""
    found = []
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(TRIES):
            start = time.process_time()
            work()
            found.append(time.process_time() - start)
    finally:
        if collects:
            gc.enable()
    return min(found)


def grows_linearly(work: Callable[[int], object], few: int, many: int) -> bool:
    """Whether `many` take no more than four times what they would by what `few` take: a square takes far more."""
    least = 0.02
    """Seconds: less is too little to compare with."""
    return least_seconds(lambda: work(many)) < 4 * many / few * max(least_seconds(lambda: work(few)), least)
