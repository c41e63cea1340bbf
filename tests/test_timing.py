"""Calls are timed in turn, once warm, and the median counts."""

import gc

import pytest

from bloodcells import timing
from bloodcells.errors import UserError


def test_medians_of_calls_in_turn(monkeypatch):
    """A clock that each call moves on: a by 1, 2 and 9 seconds in its timed calls, b by 5 each time."""
    clock, order = [0.0], []
    lengths = {"a": iter([100, 1, 2, 9]), "b": iter([100, 5, 5, 5])}

    def call(name):
        order.append(name)
        clock[0] += next(lengths[name])

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    found = timing.time_in_turn({"a": lambda: call("a"), "b": lambda: call("b")}, n_repeats=3)
    assert found == {"a": 2, "b": 5}
    assert order == ["a", "b"] * 4


def test_no_rounds_are_refused():
    with pytest.raises(UserError, match="n_repeats"):
        timing.time_in_turn({}, n_repeats=0)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_garbage_collector_rests_and_is_as_before_afterwards(is_enabled):
    def fail():
        states.append(gc.isenabled())
        if len(states) > 1:
            raise ZeroDivisionError

    states, before = [], gc.isenabled()
    try:
        (gc.enable if is_enabled else gc.disable)()
        with pytest.raises(ZeroDivisionError):
            timing.time_in_turn({"": fail})
        assert states == [is_enabled, False]
        assert gc.isenabled() == is_enabled
    finally:
        (gc.enable if before else gc.disable)()
