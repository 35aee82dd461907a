import threading
import time

import pytest

from cadlib.thread_pool import map_ahead


def test_results_come_in_the_order_of_the_items():
    def slow_for_some(number):
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number

    assert list(map_ahead(slow_for_some, range(20), workers=4)) == list(range(20))


def test_no_more_than_a_few_items_are_taken_ahead():
    started = []

    def items():
        for number in range(1000):
            started.append(number)
            yield number

    results = map_ahead(lambda number: number, items(), workers=2, ahead=5)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(started) <= 15


def test_the_work_is_shared_by_threads():
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(map_ahead(lambda _: meeting.wait(), range(3), workers=3))) == 3


def test_an_error_comes_at_the_place_of_its_item():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number

    results = map_ahead(work, range(10), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
