"""Values that are made in less time are the values that their own classes make."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields

import pytest

from dagexec import Call, Done
from dagexec._core.events import Added, Launch, Settled, Started, added, launch, settled, started
from dagexec._core.outcomes import done

CALL = Call("a", "t")
PAIRS = [
    (added(CALL), Added(CALL)),
    (started("a", 1.5), Started("a", 1.5)),
    (settled("a", Done(1)), Settled("a", Done(1))),
    (launch(2, ("a", "b")), Launch(2, ("a", "b"))),
    (done(1, 1.0, 2.0, 0.5), Done(1, attempts=1, started=1.0, ended=2.0, queued=0.5)),
]


@pytest.mark.parametrize(("quick", "plain"), PAIRS, ids=lambda value: type(value).__name__)
def test_one_that_was_a_draft_is_like_any_other(quick, plain):
    """Every field is set, a new one too; it is frozen, equal, and can be copied and pickled."""
    assert type(quick) is type(plain)
    assert quick == plain
    assert repr(quick) == repr(plain)
    for field in fields(plain):
        assert getattr(quick, field.name) == getattr(plain, field.name)
        with pytest.raises(FrozenInstanceError):
            setattr(quick, field.name, None)
        with pytest.raises(FrozenInstanceError):
            delattr(quick, field.name)
    assert copy.copy(quick) == plain
    assert pickle.loads(pickle.dumps(quick)) == plain
