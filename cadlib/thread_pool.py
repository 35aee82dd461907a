"""Work that threads do a few items ahead of who asks for it."""

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
    """Return the threads that answers share, two more than cores. Work that waits for other work here is not for them.

    Some of them wait for a process that decodes an image.

    A thread of its own for each picture would cost more than it saves: what is measured there is slow at first.
    """
    return ThreadPoolExecutor((os.cpu_count() or 1) + 2)


def map_ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    ahead: int | None = None,
) -> Iterator[Result]:
    """Yield `work(item)` in the order of the items, `ahead` of them at a time in `workers` threads.

    As many threads as cores, and eight items a thread, where not said. Unlike the `map` of a ThreadPoolExecutor it
    takes no item before its turn: half a million waiting ones would hold a gigabyte. Good for work that lets go
    of the GIL, as Pillow does while it decodes.
    """
    rest, workers = iter(items), workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting = deque(pool.submit(work, item) for item in islice(rest, ahead or 8 * workers))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
                yield result
        finally:
            pool.shutdown(
                wait=False, cancel_futures=True
            )  # after Ctrl-C nobody waits for what has not begun
