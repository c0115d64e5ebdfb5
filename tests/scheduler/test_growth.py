"""What the machine does for four times as many calls takes far less than sixteen times as long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dagexec._core.outcomes import Done, Pending
from dagexec._core.plan import Call
from dagexec._core.refs import Each, Ref
from dagexec._core.scheduler import (
    Added,
    Closed,
    Expired,
    Reopened,
    Scheduler,
    Settled,
    Spread,
    Started,
)
from tests.hostile.cost import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONG = 8_000  # calls
# Seconds below which growth says nothing.
NOTHING = 0.25


def added(calls: Iterable[Call]) -> Scheduler:
    machine = Scheduler()
    machine.receive(*(Added(call) for call in calls), Closed())
    return machine


def reopened(count: int) -> None:
    """Answer calls of one layer, one after the other, that all wait for a person."""
    machine = added(Call(f"c{index}", "t", {}) for index in range(count))
    names = [call.id for call in machine.calls]
    for name in names:
        machine.receive(Started(name))
        machine.receive(Settled(name, Pending()))
    for name in names:
        machine.receive(Reopened(name))
    for name in names:
        machine.receive(Started(name))
        machine.receive(Settled(name, Done(1)))
    assert machine.finished


def reopened_in_layers(count: int) -> None:
    """Answer calls that were each launched in a layer of its own."""
    machine = Scheduler()
    names = [f"c{index}" for index in range(count)]
    for name in names:
        machine.receive(Added(Call(name, "t", {})))
        machine.receive(Started(name))
        machine.receive(Settled(name, Pending()))
    machine.receive(Closed())
    for name in names:
        machine.receive(Reopened(name))


def spread(count: int) -> None:
    """Put items behind each call of one layer."""
    machine = added(
        [Call("s", "t", {}), *(Call(f"c{i}", "t", {"x": Each(Ref("s"))}) for i in range(count))]
    )
    machine.receive(Started("s"))
    machine.receive(Settled("s", Done([1])))
    for index in range(count):
        machine.receive(Spread(f"c{index}", 1))
    machine.receive(Expired(1))


def one_item_for_all(count: int) -> None:
    """Refer to the first item of one call from all others."""
    machine = added(
        [
            Call("s", "t", {}),
            Call("e", "t", {"x": Each(Ref("s"))}),
            *(Call(f"c{index}", "t", {"x": Ref("e")[0]}) for index in range(count)),
        ]
    )
    machine.receive(Started("s"))
    machine.receive(Settled("s", Done([1])))
    machine.receive(Spread("e", 1))


def one_item_behind_all(count: int) -> None:
    """Order the last item behind all others."""
    machine = added([Call("s", "t", {}), Call("e", "t", {"x": Each(Ref("s"))})])
    machine.receive(Started("s"))
    machine.receive(Settled("s", Done([1] * count)))
    machine.receive(Spread("e", count, tuple((index, count - 1) for index in range(count - 1))))


@pytest.mark.costs
@pytest.mark.parametrize(
    "do", [reopened, reopened_in_layers, spread, one_item_for_all, one_item_behind_all]
)
def test_time_grows_with_the_number_of_calls(do: Callable[[int], None]) -> None:
    long = seconds(lambda: do(LONG))
    if long > NOTHING:
        short = seconds(lambda: do(LONG // 4))
        for _ in range(8):  # on a busy machine the quickest tells most
            if long >= 9 * short:
                long = min(long, seconds(lambda: do(LONG)))
        assert long < 9 * short, f"{short:.3f} s, and {long:.3f} s for four times as many"
