"""Rounds and calls whose end cannot be recorded: their process lives, and nobody runs them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from dagexec import Call, DagexecError, Ref, current_call, tool
from dagexec.journal import Types
from dagexec.limits import Limiter

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
import psycopg
from dbos import PortableWorkflowError
from dbos import error as dbos_error

from dagexec.engines.dbos import _stranded
from dagexec.engines.dbos._causes import cause_of, recordable, refusal
from dagexec.engines.dbos._database import takes_it_later
from dagexec.engines.dbos._stranded import Stranded
from tests.engines.test_places import engine_at, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dagexec.engines.dbos import DbosEngine
    from dagexec.engines.dbos._database import Database

pytestmark = pytest.mark.anyio
database = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.timeout(150)]

# Seconds in which a run has to come to something, on a busy machine.
SOON = 40.0


class Panic(BaseException):
    """As a library written in Rust raises it."""


class Bad:
    """A value whose reading raises what it is told to."""


class World:
    """Tools, what they did, and what the deciding half meets when it reads a value."""

    def __init__(self) -> None:
        self.began: Counter[str] = Counter()
        self.raises: BaseException | None = None
        self.held = asyncio.Event()
        self.types = Types()
        self.types.register(Bad, f"bad {id(self)}", lambda _: "x", self._read)
        mail = Limiter(f"mail {id(self)}", in_flight=2)

        @tool
        async def send(value: object = None) -> str:
            self.began[current_call().id] += 1
            return "sent to secret@example.org"

        @tool
        async def hold(value: object = None) -> str:
            self.began[current_call().id] += 1
            await self.held.wait()
            return "held"

        @tool(effect="read")
        async def look(value: object = None) -> Bad:
            self.began[current_call().id] += 1
            return Bad()

        @tool(effect="read", limits=[mail])
        async def queued(value: object = None) -> str:
            self.began[current_call().id] += 1
            return "queued"

        self.tools = [send, hold, look, queued]

    def _read(self, _: Any) -> Bad:
        if self.raises is not None:
            raise self.raises
        return Bad()

    def engine(self, url: str, name: str) -> DbosEngine:
        return engine_at(url, name, self.tools, types=self.types)


@pytest.fixture
def world() -> World:
    return World()


def chain(*tools: str) -> list[Call]:
    """Return calls of these tools, each with the value of the one before."""
    plan = [Call("c0", tools[0])]
    for number, each in enumerate(tools[1:], 1):
        plan.append(Call(f"c{number}", each, {"value": Ref(f"c{number - 1}")}))
    return plan


async def until(happened: Any) -> None:
    async with asyncio.timeout(SOON):
        while not happened():
            await asyncio.sleep(0.01)


async def come_to(waiting: Any) -> Any:
    """Wait for a run: it ends, or goes on, and holds nobody for ever."""
    async with asyncio.timeout(SOON):
        return await waiting


def cancel_round(engine: DbosEngine, name: str) -> None:
    """Cancel the task of a round, as a program does that cancels all that it finds."""
    assert engine._process is not None
    tasks = engine._process.site._tasks
    (task,) = [each for each, workflow in tasks.items() if workflow == f"dagexec:{name}|r|1"]
    task.cancel()


@asynccontextmanager
async def refusing(
    at: tuple[str, str], table: str, code: str, when: str = "true", times: int = 1_000_000
) -> AsyncIterator[None]:
    """Let the database refuse so many rows of an engine's runs, with this SQLSTATE.

    `at` is the database and the name of the engine.
    """
    url, name = at
    own = f"refuse_{name}"
    body = (
        f"begin if nextval('dbos.{own}') > {times} then return new; end if;"
        f" raise exception 'no room at the inn' using errcode = '{code}'; end"
    )
    await rows(url, f"create sequence dbos.{own}")
    await rows(url, f"create function dbos.{own}() returns trigger language plpgsql as $${body}$$")
    await rows(
        url,
        f"create trigger {own} before insert or update on dbos.{table} for each row"
        f" when (new.workflow_uuid like 'dagexec:{name}|%%' and {when})"
        f" execute function dbos.{own}()",
    )
    try:
        yield
    finally:
        await rows(url, f"drop trigger {own} on dbos.{table}")


ENDS = "new.status in ('SUCCESS', 'ERROR')"


class TestRounds:
    """A round that breaks off otherwise than with an error that DBOS records."""

    pytestmark = database

    async def test_what_is_no_exception_ends_the_run(self, url, name, world):
        """Who waits is told what it was, and so is everybody later."""
        world.raises = Panic("it panicked")
        async with world.engine(url, name) as engine:
            for _ in range(2):
                with pytest.raises(DagexecError, match=r"'r' broke off .*: Panic: it"):
                    await come_to(engine.run(chain("look", "send"), run_id="r"))

    async def test_one_that_was_cancelled_goes_on(self, url, name, world, caplog):
        """Nothing that was done is done again, and a write under way is in doubt."""
        async with world.engine(url, name) as engine:
            plan = [*chain("send", "send", "hold"), Call("r", "look")]
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await until(lambda: world.began["c2"] and world.began["r"])
            await asyncio.sleep(0.2)  # until the value of the look is recorded, mostly
            cancel_round(engine, name)
            report = await come_to(waiting)
        assert {call: each.status for call, each in report.items()} == {
            "c0": "done",
            "c1": "done",
            "c2": "in_doubt",
            "r": "done",
        }
        assert [world.began[f"c{each}"] for each in range(3)] == [1, 1, 1]
        assert f"dagexec:{name}|r|1 was interrupted, and goes on in " in caplog.text

    async def test_one_that_was_cancelled_goes_on_in_a_later_process(self, url, name, world):
        """Whoever opens the engine next has it."""
        status = "select 1 from dbos.workflow_status where status = 'DELAYED'"
        async with world.engine(url, name) as engine:
            waiting = asyncio.create_task(engine.run(chain("send", "hold"), run_id="r"))
            await until(lambda: world.began["c1"])
            cancel_round(engine, name)
            async with asyncio.timeout(SOON):
                while not await rows(url, f"{status} and application_name = %s", name):
                    await asyncio.sleep(0.02)
            waiting.cancel()
        async with world.engine(url, name) as engine:
            report = await come_to(engine.resume("r"))
        assert [each.status for each in report.values()] == ["done", "in_doubt"]
        assert world.began == {"c0": 1, "c1": 1}

    async def test_one_that_is_interrupted_again_and_again(self, url, name, world, monkeypatch):
        """Who waits is told why; the run goes on when that is over."""
        monkeypatch.setattr(_stranded, "_OFTEN", 2)
        world.raises = asyncio.CancelledError()
        async with world.engine(url, name) as engine:
            with pytest.raises(DagexecError, match="'r' was interrupted, and is tried again"):
                await come_to(engine.run(chain("look", "send"), run_id="r"))
            world.raises = None
            report = await come_to(engine.run(chain("look", "send"), run_id="r"))
        assert report.ok
        assert world.began["c1"] == 1

    async def test_an_end_that_the_database_refuses(self, url, name, world, caplog):
        """Who waits is told what it said, without a value; later the run comes to its end."""
        async with world.engine(url, name) as engine:
            async with refusing((url, name), "workflow_status", "42501", ENDS):
                with pytest.raises(DagexecError) as caught:
                    await come_to(engine.run(chain("send", "send"), run_id="r"))
            assert "'r' was interrupted, and is tried again" in str(caught.value)
            assert "the database refused it: no room at the inn" in str(caught.value)
            report = await come_to(engine.run(chain("send", "send"), run_id="r"))
        assert report.ok
        assert world.began == {"c0": 1, "c1": 1}
        assert "no room at the inn" in caplog.text
        assert "secret@example.org" not in caplog.text

    async def test_a_database_that_refuses_all(self, url, name, world):
        """Not even the owner of the round can be changed; who waits is told that, too."""
        held = "new.status <> 'PENDING'"
        async with world.engine(url, name) as engine:
            async with refusing((url, name), "workflow_status", "42501", held):
                with pytest.raises(DagexecError, match="it cannot go on yet: the database refused"):
                    await come_to(engine.run(chain("send"), run_id="r"))
            assert (await come_to(engine.run(chain("send"), run_id="r"))).ok
        assert world.began == {"c0": 1}

    @pytest.mark.parametrize(
        ("table", "code"),
        [
            ("operation_outputs", "40001"),
            ("operation_outputs", "57014"),
            ("workflow_status", "55P03"),
        ],
    )
    async def test_others_in_the_way(self, url, name, world, table, code):
        """A lock, a timeout, another transaction: what is recorded is tried again."""
        when = ENDS if table == "workflow_status" else "true"
        async with world.engine(url, name) as engine, refusing((url, name), table, code, when, 1):
            assert (await come_to(engine.run(chain("send", "send"), run_id="r"))).ok
        assert world.began == {"c0": 1, "c1": 1}

    async def test_a_beginning_that_the_database_refuses(self, url, name, world):
        """Nothing has begun, and the error is one of ours."""
        async with world.engine(url, name) as engine:
            async with refusing((url, name), "workflow_status", "42501"):
                with pytest.raises(DagexecError, match="'r' needs: no room at the inn"):
                    await come_to(engine.run(chain("send"), run_id="r"))
            assert not world.began
            assert (await come_to(engine.run(chain("send"), run_id="r"))).ok


class TestCalls:
    """Calls that are workflows of their own."""

    pytestmark = database

    async def test_an_end_that_the_database_refuses(self, url, name, world):
        """The call goes on, anywhere, and so does its run."""
        when = f"{ENDS} and new.name = 'dagexec.call'"
        refusals = refusing((url, name), "workflow_status", "42501", when, 2)
        async with world.engine(url, name) as engine, refusals:
            report = await come_to(engine.run(chain("queued", "send"), run_id="r"))
        assert report.ok
        assert world.began["c1"] == 1

    async def test_one_that_was_claimed_and_never_began(self, url, name, world, monkeypatch):
        """DBOS's thread claims it, and has no thread or memory left to begin it."""
        from dbos._dbos import _get_dbos_instance

        monkeypatch.setattr(_stranded, "_LATE", 1.0)
        monkeypatch.setattr(_stranded, "_EVERY", 0.5)
        async with world.engine(url, name) as engine:
            loop = cast("Any", _get_dbos_instance())._background_event_loop
            submit, refused = loop.submit_coroutine, []

            def refuse(coroutine: Any) -> Any:
                if refused or "start_workflow_task" not in coroutine.__qualname__:
                    return submit(coroutine)
                refused.append(coroutine.close())
                raise RuntimeError("can't start new thread")

            monkeypatch.setattr(loop, "submit_coroutine", refuse)
            report = await come_to(engine.run(chain("queued", "send"), run_id="r"))
        assert refused
        assert report.ok
        assert world.began == {"c0": 1, "c1": 1}


class Owned:
    """A database that says what this process owns, and what was given back."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.given: list[tuple[str, str, str]] = []
        self.asked = 0
        self.error: psycopg.Error | None = None

    async def owned(self) -> list[tuple[str, str]]:
        self.asked += 1
        return [*self.rows]

    async def give_back(self, name: str, claim: str, queue: str) -> float | None:
        if self.error is not None:
            raise self.error
        self.given.append((name, claim, queue))
        return 1.0


class TestLooks:
    """Which workflows are given back, and who is told."""

    @pytest.fixture
    def owned(self, monkeypatch: pytest.MonkeyPatch) -> Owned:
        monkeypatch.setattr(_stranded, "_SOON", 0.0)
        monkeypatch.setattr(_stranded, "_EVERY", 1000.0)
        return Owned()

    def made(self, owned: Owned, *runs: str) -> Stranded:
        return Stranded(cast("Database", owned), lambda: runs, lambda: "q")

    async def test_what_runs_here_is_left_alone(self, owned):
        """Whatever became of an earlier execution of it."""
        stranded = self.made(owned, "a")
        owned.rows = [("a", "1")]
        stranded.broke("a", ValueError("no"))
        for _ in range(3):
            await stranded.look()
        assert owned.given == []
        assert owned.asked == 1  # the next look is taken when it is time

    async def test_what_broke_is_given_back(self, owned):
        """Of that claim, and once."""
        stranded = self.made(owned)
        owned.rows = [("a", "1")]
        stranded.broke("a", None)
        await stranded.look()
        assert owned.given == [("a", "1", "q")]
        owned.rows = []
        await stranded.look()
        assert len(owned.given) == 1

    async def test_what_nobody_heard_of_gets_its_time(self, owned, monkeypatch):
        """A claim may be about to begin; another claim of the same begins anew."""
        stranded = self.made(owned)
        owned.rows = [("a", "1")]
        await stranded.look()
        monkeypatch.setattr(_stranded, "_LATE", 0.0)
        owned.rows = [("b", "1")]
        monkeypatch.setattr(_stranded, "_LATE", 1000.0)
        await stranded.look()
        assert owned.given == []
        monkeypatch.setattr(_stranded, "_LATE", 0.0)
        await stranded.look()
        assert owned.given == [("b", "1", "q")]

    async def test_who_is_told(self, owned):
        """Of a refusal at once, of all else when it comes often."""
        stranded, told = self.made(owned), list[str]()
        owned.rows = [("a", "1")]
        with stranded.telling("a", told.append):
            for _ in range(3):
                assert told == []
                stranded.broke("a", MemoryError("full"))
                await stranded.look()
            assert told == ["MemoryError: full"]
            stranded.broke("a", psycopg.errors.InsufficientPrivilege("no"))
            await stranded.look()
            assert told[1:] == ["the database refused it: no"]
        stranded.broke("a", psycopg.errors.InsufficientPrivilege("no"))
        await stranded.look()
        assert len(told) == 2

    async def test_what_cannot_be_given_back(self, owned):
        """Is tried again at each look."""
        stranded, told = self.made(owned), list[str]()
        owned.rows, owned.error = [("a", "1")], psycopg.errors.InsufficientPrivilege("no")
        stranded.broke("a", None)
        with stranded.telling("a", told.append):
            await stranded.look()
        assert told == ["it was cancelled; it cannot go on yet: the database refused it: no"]
        owned.error = None
        with stranded.telling("a", told.append):
            await stranded.look()
        assert owned.given == [("a", "1", "q")]
        assert len(told) == 1  # who asks when it can go on waits for it


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError


class Wrapped(Exception):
    """As SQLAlchemy's errors: the driver's error inside, values in the text."""

    def __init__(self, orig: BaseException) -> None:
        super().__init__(f"(driver) {orig}\n[SQL: insert]\n[parameters: secret]")
        self.orig = orig


class TestCauses:
    """The words for an error."""

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (ValueError("no"), "ValueError: no"),
            (DagexecError("no"), "no"),
            (Panic("no"), "Panic: no"),
            (ValueError("half \ud800"), "ValueError: half \\ud800"),
            (Speechless(), "Speechless: "),
            (ExceptionGroup("two", [KeyError("a"), ValueError("b")]), "KeyError: 'a'"),
            (PortableWorkflowError("no", "DagexecError"), "no"),
            (PortableWorkflowError("no\n[SQL: s]\n[p]", "DataError"), "DataError: no"),
            (psycopg.errors.DataError("no"), "the database refused it: no"),
            (Wrapped(psycopg.errors.DataError("no")), "the database refused it: no"),
        ],
    )
    async def test_texts(self, error, text):
        """A kind and a line that any database takes."""
        assert cause_of(error) == text

        async def work() -> None:
            raise error

        with pytest.raises(DagexecError) as caught:
            await recordable(work())
        assert str(caught.value) == text
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize(
        "error",
        [asyncio.CancelledError(), dbos_error.DBOSWorkflowConflictIDError("w")],
        ids=["cancelled", "not ours any more"],
    )
    async def test_what_is_no_end(self, error):
        """It passes through as it is: somebody else goes on."""

        async def work() -> None:
            raise error

        with pytest.raises(type(error)):
            await recordable(work())

    def test_long_texts_are_cut(self):
        """An error may quote a whole value."""
        assert len(cause_of(ValueError("x" * 10_000_000))) < 3000

    def test_refusals(self):
        """Those of the database, however they are wrapped."""
        assert refusal(ExceptionGroup("", [Wrapped(psycopg.DataError("no"))])) == "no"
        assert refusal(ValueError("no")) is None

    @pytest.mark.parametrize(
        ("error", "later"),
        [
            (psycopg.OperationalError("failed to resolve host 'x'"), True),
            (psycopg.errors.SerializationFailure(), True),
            (psycopg.errors.LockNotAvailable(), True),
            (psycopg.errors.QueryCanceled(), True),
            (psycopg.errors.ReadOnlySqlTransaction(), True),
            (psycopg.errors.ProgramLimitExceeded(), False),
            (psycopg.errors.InsufficientPrivilege(), False),
            (psycopg.errors.UntranslatableCharacter(), False),
            (ValueError(), False),
            (None, False),
        ],
    )
    def test_what_a_database_takes_later(self, error, later):
        """What is too large never, and what it does not allow not until a person says so."""
        assert takes_it_later(error) is later
