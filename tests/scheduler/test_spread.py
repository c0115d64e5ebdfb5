"""Random plans with calls for each item: what must hold at each step, and that a replay agrees."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dagexec import Call, CallError, Done, Each, Failed, Ref, TimedOut
from dagexec._core.each import gathered, item_id
from dagexec._core.scheduler import Scheduler
from dagexec.lowlevel import (
    Abort,
    Added,
    Closed,
    Conclude,
    Event,
    Expired,
    Finish,
    Launch,
    Settled,
    Spread,
    Started,
    State,
    Stop,
)


class Driver:
    """Drives a machine at random, and checks what it says."""

    def __init__(self, seed: int, *, policy: str, barrier: bool) -> None:
        self.random = Random(seed)
        self.options = {"on_failure": policy, "barrier": barrier}
        self.machine = Scheduler(**self.options)
        self.log: list[tuple[Event, ...]] = []
        self.items: dict[str, int] = {}
        self.launched: list[str] = []
        self.finished = 0
        self.feed(*[Added(call) for call in self.plan()], Closed())

    def plan(self) -> list[Call]:
        """Return calls of which about half are for each item of an earlier one."""
        calls: list[Call] = []
        for number in range(self.random.randint(2, 7)):
            args: dict[str, object] = {}
            sources = self.random.choices(range(number), k=2) if number else []
            for place, source in enumerate(sources):
                path = self.random.choice([(), (), (0,), (1,), (-1,)])
                ref = Ref(f"c{source}", path)
                each = not path and self.random.random() < 0.5
                args[f"a{place}"] = Each(ref) if each else ref
            if not number:
                args["a"] = Each((1, 2))
            calls.append(Call(f"c{number}", "t", args))
        self.random.shuffle(calls)
        return calls

    def feed(self, *events: Event) -> None:
        """Give events; check each action."""
        stopped = self.machine.stopped
        self.log.append(events)
        spread: list[str] = []
        for action in self.machine.receive(*events):
            if isinstance(action, Launch):
                assert not stopped
                for name in action.calls:
                    assert name not in self.launched
                    self.launched.append(name)
                    if self.machine.call(name).each:
                        spread.append(name)
                    self.check_needs(name)
            elif isinstance(action, Conclude):
                assert self.machine.outcomes[action.call] is action.outcome
            elif isinstance(action, Finish):
                self.finished += 1
            else:
                assert isinstance(action, Abort)
        self.check_parents()
        for name in spread:
            if self.machine.state(name) is State.READY:
                given = "a" in self.machine.call(name).args
                count = self.items[name] = 2 if given else self.random.choice([0, 1, 2, 3])
                self.feed(Spread(name, count))

    def check_needs(self, name: str) -> None:
        """All that a launched call refers to is done; of a call with items, the item at least."""
        outcomes = self.machine.outcomes
        for ref in self.machine.call(name).refs:
            known = outcomes.get(ref.call)
            if known is None or known.status != "done":
                item = item_id(ref.call, ref.path[0]) if ref.path else ""
                assert outcomes[item].status == "done"

    def check_parents(self) -> None:
        """A call has the outcome of its items, as soon as all have theirs and not before."""
        outcomes = self.machine.outcomes
        for name, count in self.items.items():
            ids = [item_id(name, index) for index in range(count)]
            ended = [(each, outcomes[each]) for each in ids if each in outcomes]
            if name in outcomes and not self.machine.stopped:
                assert len(ended) == count
                expected = gathered(ended)
                assert outcomes[name].status == expected.status
                assert outcomes[name].value == expected.value
            elif not self.machine.stopped:
                assert len(ended) < count

    def run(self) -> None:
        """Let things happen until the machine is finished."""
        for _ in range(400):
            if self.finished:
                return
            active = [
                each.id
                for each in self.machine.calls
                if self.machine.state(each.id) in (State.READY, State.RUNNING, State.STOPPING)
                and each.id not in self.items
            ]
            dice = self.random.random()
            if dice < 0.01:
                self.feed(Stop(TimedOut("workflow")))
                continue
            assert active, "nothing runs, and it is not finished"
            name = self.random.choice(active)
            if dice < 0.03 and self.machine.state(name) is State.READY:
                self.feed(Expired(self.random.randrange(len(self.machine._layers))))
            elif self.machine.state(name) is State.READY:
                self.feed(Started(name))
            else:
                failed = Failed(CallError("no"))
                self.feed(Settled(name, failed if dice > 0.9 else Done([1, 2, 3])))
        raise AssertionError("it does not end")


@given(seed=st.integers(0, 2**32), policy=st.sampled_from(["skip", "stop"]), barrier=st.booleans())
def test_calls_for_each_item_among_others(seed: int, policy: str, barrier: bool) -> None:
    """Each call is launched at most once and ends once; a replay of the events gives the same."""
    driver = Driver(seed, policy=policy, barrier=barrier)
    driver.run()
    machine = driver.machine
    assert driver.finished == 1
    assert [each.id for each in machine.calls if each.id not in machine.outcomes] == []
    for name, count in driver.items.items():
        assert all(item_id(name, index) in machine.outcomes for index in range(count))
    again = Scheduler(**driver.options)
    for events in driver.log:
        again.receive(*events)
    assert {name: each.status for name, each in again.outcomes.items()} == {
        name: each.status for name, each in machine.outcomes.items()
    }
