"""Runs work in threads, a few items ahead of their consumer."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@cache
def threads() -> ThreadPoolExecutor:
    """Return the threads that all assessments share, two more than cores.

    Work that waits for other work in these threads must not run here. Some threads wait for a
    process that decodes an image.

    A separate thread for each image would cost more than it saves, because measurements are slow at
    first in a new thread.
    """
    cores = os.cpu_count() or 1
    return ThreadPoolExecutor(cores + 2)


def map_ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    ahead: int | None = None,
) -> Iterator[Result]:
    """Yield `work(item)` in the order of the items, `ahead` of them at a time in `workers` threads.

    By default there are as many threads as cores and eight items for each thread. Unlike the `map`
    of a ThreadPoolExecutor it takes no item before its turn: half a million waiting ones would hold
    a gigabyte. It suits work that releases the GIL, as Pillow does while it decodes.
    """
    remaining = iter(items)
    # The number of cores is unknown on some systems.
    n_workers = workers or os.cpu_count() or 1
    n_ahead = ahead or 8 * n_workers
    with ThreadPoolExecutor(n_workers) as pool:
        try:
            first_items = islice(remaining, n_ahead)
            waiting = deque(pool.submit(work, item) for item in first_items)
            while waiting:
                result = waiting.popleft().result()
                next_item = islice(remaining, 1)
                waiting.extend(pool.submit(work, item) for item in next_item)
                yield result
        finally:
            # After Ctrl-C nobody waits for work that has not begun.
            pool.shutdown(wait=False, cancel_futures=True)
