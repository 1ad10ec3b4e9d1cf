"""Work of the next item done while the caller uses the last one. One thread; nothing of files or models."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, in order; each is made in a thread while the caller still uses the one before it.

    What making an item raises comes out where the item would have. One item at most is made and not asked for.

    >>> list(read_ahead(number * number for number in range(4)))
    [0, 1, 4, 9]
    """
    waiting, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as thread:
        coming = thread.submit(next, waiting, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, waiting, end)
            yield item  # type: ignore[misc]  # what is not the end is an item
