"""The rendezvous against a model of a framework: nobody waits for what cannot come."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dagexec.integrations._turns.rendezvous import (
    Announced,
    Came,
    Close,
    Ended,
    Enter,
    Lack,
    Late,
    Left,
    Refused,
    Rendezvous,
    State,
)


class Framework(RuleBasedStateMachine):
    """A framework that starts calls in its own way, and a plan that runs what has entered."""

    @initialize(data=st.data(), size=st.integers(1, 7))
    def announce(self, data, size):
        """Announce calls without cycles, in groups, under a limit that may be none."""
        self.limit = data.draw(st.one_of(st.none(), st.integers(1, size)))
        names = [str(n) for n in range(size)]
        rank = data.draw(st.permutations(names))
        groups = sorted(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
        self.calls = {}
        for n, name in enumerate(names):
            before = rank[: rank.index(name)]
            waits = data.draw(st.lists(st.sampled_from(before), unique=True)) if before else []
            self.calls[name] = Announced(name, tuple(waits), groups[n])
        self.machine = Rendezvous(self.calls.values())
        self.expected = dict.fromkeys(names)
        self.gone = set()
        self.inside = {}
        # The plan: what stands for a call, True once it has ended.
        self.plan = {}
        self.closed = 0

    def tell(self, event):
        for action in self.machine.receive(event):
            match action:
                case Enter(name, again):
                    assert again == (name in self.plan)
                    self.plan[name] = False
                    self.inside[name] = None
                case Lack(name, gone):
                    assert name not in self.plan, "what has come is not lacking"
                    assert gone == (name in self.gone)
                    self.plan[name] = True
                case Close():
                    self.closed += 1

    def can_come(self):
        if self.limit is not None and len(self.inside) >= self.limit:
            return []
        lowest = min((self.calls[name].group for name in (*self.expected, *self.inside)), default=0)
        return [name for name in self.expected if self.calls[name].group == lowest]

    def can_end(self):
        return [
            name
            for name in self.inside
            if all(self.plan.get(other, False) for other in self.calls[name].waits)
        ]

    @precondition(lambda self: self.can_come())
    @rule(data=st.data())
    def come(self, data):
        """Start any call that may be started."""
        name = data.draw(st.sampled_from(self.can_come()))
        del self.expected[name]
        self.tell(Came(name, self.limit))
        assert name in self.inside

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def leave(self, data):
        """Give a call up."""
        name = data.draw(st.sampled_from(list(self.expected)))
        del self.expected[name]
        self.gone.add(name)
        self.tell(Left(name))

    @precondition(lambda self: self.can_end())
    @rule(data=st.data())
    def end(self, data):
        """End a call that waits for nothing."""
        name = data.draw(st.sampled_from(self.can_end()))
        del self.inside[name]
        self.plan[name] = True
        self.tell(Ended(name))

    @rule()
    def late(self):
        """Wait too long."""
        self.tell(Late())
        assert not self.inside or self.can_end(), "nobody waits on"

    @rule(data=st.data())
    def refuse(self, data):
        """Say what cannot be: nothing changes."""
        name = data.draw(st.sampled_from(list(self.calls)))
        wrong = {
            State.EXPECTED: [Ended],
            State.INSIDE: [Came, Left],
            State.OUT: [Came, Left, Ended],
            State.GONE: [Ended],
        }[self.machine.state(name)]
        with pytest.raises(Refused, match=name):
            self.machine.receive(data.draw(st.sampled_from(wrong))(name))

    @invariant()
    def somebody_can_go_on(self):
        """Whatever has happened: a call can end, one can come, or all is over."""
        if not hasattr(self, "machine"):
            return
        assert self.can_end() or self.can_come() or not self.inside
        over = not self.inside and not self.expected
        assert self.closed == over
        assert self.machine.closed == over

    @invariant()
    def states_are_what_happened(self):
        """The machine knows who is where."""
        if not hasattr(self, "machine"):
            return
        for name in self.calls:
            state = self.machine.state(name)
            assert (state is State.EXPECTED) == (name in self.expected)
            assert (state is State.INSIDE) == (name in self.inside)
            assert (state is State.GONE) == (name in self.gone)


TestRendezvous = Framework.TestCase


def test_what_comes_later_is_lacking_at_once():
    """The first refers to one that is started after it: it is not to wait for others first."""
    machine = Rendezvous([Announced("1", ("3",)), Announced("2"), Announced("3", (), 1)])
    assert machine.receive(Came("1")) == [Lack("3", gone=False), Enter("1")]
    assert machine.receive(Came("2")) == [Enter("2")]
    assert machine.receive(Ended("1")) == []
    assert machine.receive(Ended("2")) == []
    assert machine.receive(Came("3")) == [Enter("3", again=True)]
    assert machine.receive(Ended("3")) == [Close()]


def test_a_limit_of_one_lets_nobody_wait():
    """The framework starts one at a time, and the first needs the second."""
    machine = Rendezvous([Announced("1", ("2",)), Announced("2")])
    assert machine.receive(Came("1", 1)) == [Enter("1"), Lack("2", gone=False)]


def test_a_chain_waits_for_what_may_still_come():
    """No limit, and all are to come: nobody is given up."""
    machine = Rendezvous([Announced("1", ("2",)), Announced("2", ("3",)), Announced("3")])
    assert machine.receive(Came("1")) == [Enter("1")]
    assert machine.receive(Came("2")) == [Enter("2")]
    assert machine.stands
    assert machine.receive(Came("3")) == [Enter("3")]
    assert not machine.stands


def test_a_call_that_was_given_up_may_come_after_all():
    """The plan before was closed; another one begins."""
    machine = Rendezvous([Announced("1"), Announced("2", ("1",))])
    machine.receive(Left("2"))
    machine.receive(Came("1"))
    assert machine.receive(Ended("1")) == [Close()]
    machine.restart()
    assert machine.receive(Came("2")) == [Enter("2")]
    assert machine.receive(Ended("2")) == [Close()]


def test_a_thousand_in_a_chain_are_no_depth():
    """Who waits for whom is found without recursion."""
    names = [str(n) for n in range(1000)]
    machine = Rendezvous(
        Announced(name, (names[n + 1],) if n < 999 else ()) for n, name in enumerate(names)
    )
    for name in names[:-1]:
        machine.receive(Came(name))
    assert machine.stands
    assert machine.receive(Left("999")) == [Lack("999", gone=True)]
