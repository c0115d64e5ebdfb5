"""What the engine refuses, and what limits become; no server is needed."""

from __future__ import annotations

import asyncio
import os

import anyio
import pytest

from dagexec import DagexecError, tool
from dagexec.limits import Limiter, Rate
from tests.engines.processes import run_python

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec.engines.dbos import DbosEngine
from tests.engines.tools_for_engines import TOOLS

NOWHERE = "postgresql://me:hunter2@127.0.0.1:1/none"
pytestmark = pytest.mark.real_time


def test_dagexec_does_not_load_dbos():
    """Neither the package nor its journal, limits and seam import DBOS, nor SQLAlchemy."""
    code = (
        "import sys, dagexec, dagexec.lowlevel, dagexec.limits, dagexec.journal, dagexec.engines\n"
        "print([name for name in ('dbos', 'psycopg', 'sqlalchemy') if name in sys.modules])"
    )
    assert run_python(code) == "[]\n"


def test_a_missing_extra_is_named():
    """One line says what to install."""
    code = (
        "import sys\nsys.modules['dbos'] = None\nimport dagexec\ntry:\n"
        "    import dagexec.engines.dbos\n"
        "except dagexec.MissingExtra as error:\n    print(error)\n"
    )
    assert run_python(code) == (
        "dagexec.engines.dbos needs DBOS and psycopg: pip install 'dagexec[dbos]'\n"
    )


def test_importing_the_engine_configures_no_logging():
    """DBOS adds a handler of its own when it begins; ours goes to the application's log."""
    code = (
        "import logging, dagexec.engines.dbos\n"
        "log = logging.getLogger('dbos')\nprint(log.handlers, log.level, log.propagate)"
    )
    assert run_python(code) == "[] 0 True\n"


def test_trio_is_refused():
    """DBOS is made for asyncio."""
    pytest.importorskip("trio")

    async def main() -> None:
        async with DbosEngine(TOOLS, database_url=NOWHERE):
            pass

    with pytest.raises(DagexecError, match="asyncio only"):
        anyio.run(main, backend="trio")


def test_a_database_that_cannot_be_reached():
    """One clear error, soon, and without the password."""

    async def main() -> None:
        async with DbosEngine(TOOLS, database_url=NOWHERE):
            pass

    with pytest.raises(DagexecError, match="cannot be reached") as caught:
        asyncio.run(main())
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_shows_no_password():
    """Nor user; where it is, and its name, are enough."""
    engine = DbosEngine(TOOLS, database_url=NOWHERE, name="shop")
    assert repr(engine) == "<DbosEngine 'shop' at 127.0.0.1/none>"


def test_it_has_to_be_opened():
    """One line shows how."""
    engine = DbosEngine(TOOLS, database_url=NOWHERE)
    for use in (engine.run([]), engine.resume("r"), engine.cancel("r")):
        with pytest.raises(DagexecError, match="async with engine"):
            asyncio.run(use)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"name": "No Name"}, "name='No Name'"),
        ({"database_url": "sqlite:///x"}, "PostgreSQL"),
        ({"polling": 0}, "polling=0"),
        ({"connections": 1}, "connections=1"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"on_failure": "go"}, "on_failure"),
        ({"in_doubt": "never"}, "in_doubt"),
        ({"tools": [tool(lambda: 1, name="t", uses={"gpu": 1})]}, "uses 1 of 'gpu'"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    """Refused when the engine is made, by name."""
    with pytest.raises(DagexecError, match=text):
        DbosEngine(**{"database_url": NOWHERE, **settings})


def limited(name: str, *limits: Limiter, **options: object) -> object:
    return tool(lambda: name, name=name, limits=limits, effect="read", **options)


@pytest.mark.parametrize(
    ("limits", "options", "text"),
    [
        ([Limiter("a", rates={"requests": 5, "tokens": 9})], {}, "'a' counts 'tokens'"),
        ([Limiter("a", in_flight=2), Limiter("b", in_flight=2)], {}, "several limiters"),
        ([Limiter("a", rates={"requests": 5})], {"cost": {"requests": 2}}, "a cost"),
    ],
)
def test_limits_that_a_queue_cannot_carry(limits, options, text):
    """Refused, with the way out."""
    with pytest.raises(DagexecError, match=text) as caught:
        DbosEngine([limited("t", *limits, **options)], database_url=NOWHERE)
    assert "peers=" in str(caught.value)


def test_what_limits_become():
    """A queue for each limiter; one that processes share by itself stays with its tool."""
    from dagexec.engines.dbos._queues import queues_of

    one = Limiter("one", in_flight=3, rates={"requests": Rate(10, per=60, burst=2)})
    own = Limiter("own", rates={"requests": 5, "tokens": 100}, peers=4)
    slow = Limiter("slow", rates={"requests": Rate(0.5, per=1)})
    tools = [
        limited("a", one), limited("b", one), limited("c", own), limited("d"), limited("e", slow),
        limited("f", Limiter("none")),
    ]  # fmt: skip
    queues, made = queues_of("shop", tools)
    assert queues["a"] is not queues["d"]
    assert queues["a"] == queues["b"]
    assert (queues["a"].name, queues["a"].in_flight) == ("dagexec:shop:one", 3)
    assert queues["a"].rate == (2, 12)
    assert queues["e"].rate == (1, 2)
    assert queues["c"] == queues["d"] == queues["f"]
    assert (queues["d"].in_flight, queues["d"].rate) == (None, None)
    assert [made[name].limits for name in "abe"] == [(), (), ()]
    assert made["c"].limits == (own,)
