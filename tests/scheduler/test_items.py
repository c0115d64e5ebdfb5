"""Single items of a call that runs once for each: what waits for which, and in which order."""

from __future__ import annotations

from dagexec import Call, CallError, Done, Each, Failed, InDoubt, Ref, Skipped
from dagexec._core.scheduler import (
    Added,
    Closed,
    Expired,
    Launch,
    Reopened,
    Scheduler,
    Settled,
    Spread,
    Started,
)
from dagexec.lowlevel import State

EACH = Call("each", "t", {"x": Each((1, 2, 3))})


def launched(actions) -> list[str]:
    return [name for action in actions if isinstance(action, Launch) for name in action.calls]


def machine_of(*calls: Call, closed: bool = True, **options) -> Scheduler:
    machine = Scheduler(**options)
    machine.receive(*map(Added, calls), *([Closed()] if closed else []))
    return machine


def end(machine: Scheduler, name: str, outcome=None) -> list[str]:
    machine.receive(Started(name))
    return launched(machine.receive(Settled(name, outcome or Done(name))))


def item(*indexes: int) -> dict[str, Ref]:
    return {f"a{index}": Ref("each", (index,)) for index in indexes}


class TestBeforeTheList:
    """A reference to an item, from a call that stands there when the list becomes known."""

    def test_two_items_are_both_waited_for(self) -> None:
        machine = machine_of(EACH, Call("pair", "t", item(0, 2)))
        machine.receive(Spread("each", 3))
        assert end(machine, "each[0]") == []
        assert machine.missing("pair") == ("each",)
        assert end(machine, "each[2]") == ["pair"]
        assert end(machine, "each[1]") == []

    def test_the_last_item_is_one_and_the_next_is_the_whole_call(self) -> None:
        machine = machine_of(EACH, Call("last", "t", item(2)), Call("beyond", "t", item(3)))
        machine.receive(Spread("each", 3))
        assert end(machine, "each[2]") == ["last"]
        assert end(machine, "each[0]") == []
        assert end(machine, "each[1]") == ["beyond"]

    def test_an_item_and_the_whole_are_the_whole(self) -> None:
        machine = machine_of(EACH, Call("both", "t", {**item(0), "all": Ref("each")}))
        machine.receive(Spread("each", 3))
        assert [end(machine, f"each[{n}]") for n in (0, 1, 2)] == [[], [], ["both"]]


class TestBehindTheList:
    """The same from a call that arrives when the items are there."""

    def machine(self) -> Scheduler:
        machine = machine_of(EACH, closed=False)
        machine.receive(Spread("each", 3))
        return machine

    def test_an_item_that_is_there(self) -> None:
        machine = self.machine()
        machine.receive(
            Added(Call("last", "t", item(2))), Added(Call("beyond", "t", item(3))), Closed()
        )
        assert end(machine, "each[2]") == ["last"]
        assert [end(machine, f"each[{n}]") for n in (0, 1)] == [[], ["beyond"]]

    def test_two_of_them(self) -> None:
        machine = self.machine()
        machine.receive(Added(Call("pair", "t", item(0, 1))), Closed())
        assert [end(machine, f"each[{n}]") for n in (0, 2, 1)] == [[], [], ["pair"]]

    def test_one_that_failed(self) -> None:
        machine = self.machine()
        end(machine, "each[1]", Failed(CallError("no")))
        machine.receive(Added(Call("one", "t", item(1))), Closed())
        assert machine.outcomes["one"] == Skipped(because="each[1]")


class TestReaders:
    """What drivers ask the machine."""

    def test_items(self) -> None:
        machine = machine_of(EACH, Call("next", "t", {}))
        assert (machine.has_items, machine.items("each")) == (False, [])
        machine.receive(Spread("each", 3))
        assert machine.has_items
        assert [call.id for call in machine.items("each")] == ["each[0]", "each[1]", "each[2]"]
        assert machine.items("next") == []
        assert [call.id for call in machine.calls] == [
            "each",
            "each[0]",
            "each[1]",
            "each[2]",
            "next",
        ]

    def test_what_is_known_and_ready(self) -> None:
        first, second = Call("a", "t", {}), Call("b", "t", {"x": Ref("a")})
        machine = machine_of(first, second)
        assert [machine.knows(name) for name in "abc"] == [True, True, False]
        assert [machine.ready(name) for name in "ab"] == [first, None]
        machine.receive(Started("a"))
        assert machine.ready("a") is None


class TestFailures:
    """The call itself, whose items fail."""

    def test_what_needs_it_is_skipped_once(self) -> None:
        for policy in ("skip", "stop"):
            machine = machine_of(EACH, Call("after", "t", {"x": Ref("each")}), on_failure=policy)
            machine.receive(Spread("each", 2))
            end(machine, "each[0]")
            assert end(machine, "each[1]", Failed(CallError("no"))) == []
            statuses = [machine.outcomes[name].status for name in ("each", "after")]
            expected = {"skip": ["failed", "skipped"], "stop": ["cancelled", "cancelled"]}
            assert statuses == expected[policy]
            assert machine.finished


def test_a_call_that_is_answered_leaves_the_layer_of_its_first_launch() -> None:
    """The deadline of that layer is none of its own any more."""
    machine = machine_of(Call("a", "t", {}), Call("b", "t", {}))
    machine.receive(Started("a"))
    machine.receive(Settled("a", InDoubt()))
    machine.receive(Started("b"))
    machine.receive(Reopened("a"))
    machine.receive(Expired(0))
    assert machine.state("a") in (State.READY, State.HELD)
    assert "a" not in machine.outcomes
