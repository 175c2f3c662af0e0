import threading
import time

import pytest

from crrl_fast.data.readers.parallel import map_in_order


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_from_a_bounded_number_of_items_ahead(workers):
    started = []
    lock = threading.Lock()

    def slow_at_first(item):
        with lock:
            started.append(item)
        time.sleep(0.01 if item < 3 else 0)
        return item * item

    for taken, result in enumerate(map_in_order(slow_at_first, iter(range(100)), workers)):
        assert result == taken * taken
        assert len(started) <= taken + 2 + 4 * workers
    assert sorted(started) == list(range(100))


def test_an_error_comes_at_its_place_and_ends_the_work():
    started = []

    def fail_at_three(item):
        started.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    results = map_in_order(fail_at_three, iter(range(1000)), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(started) < 20
