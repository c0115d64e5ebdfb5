"""What is kept and shown of an argument that is secret, and how its run goes on."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from dagexec import (
    Approve,
    Call,
    DagexecError,
    Each,
    Executor,
    Plan,
    PlanError,
    Ref,
    Report,
    Template,
    tool,
)
from dagexec.journal import MemoryJournal, SqliteJournal

pytestmark = [pytest.mark.anyio, pytest.mark.real_time, pytest.mark.timeout(240)]
SECRET = "hunter2"
G = Ref("g")
# What is written in the argument, beside references or without: what the tool gets for it.
WRITTEN: dict[str, tuple[Any, Any]] = {
    "text": (SECRET, SECRET),
    "literal": ({"$literal": {SECRET: 1}}, {SECRET: 1}),
    "template": (Template("hunter2 {}", G), "hunter2 v"),
    "template in JSON": ({"$template": "Bearer ${g} hunter2"}, "Bearer v hunter2"),
    "default": (Ref("none", default=SECRET), SECRET),
    "default in a template": (Template("{}", Ref("none", default=SECRET)), SECRET),
    "default in a list": ([Ref("none", default={"k": SECRET})], [{"k": SECRET}]),
    "mapping": ({"user": G, "password": SECRET}, {"user": "v", "password": SECRET}),
    "list": ([G, SECRET], ["v", SECRET]),
    "deep": ({"a": [{SECRET: 1}, [G]]}, {"a": [{SECRET: 1}, ["v"]]}),
    "literal in a list": ([G, {"$literal": {"$ref": SECRET}}], ["v", {"$ref": SECRET}]),
    "items": (Each((SECRET, "b")), SECRET),
    "items beside": ({"k": Each((SECRET, "b")), "of": G}, {"k": SECRET, "of": "v"}),
    "default of items": (Each(Ref("none", default=[SECRET])), SECRET),
}
# What is all reference: a journal keeps it, and the run goes on by itself.
REFERRED: dict[str, tuple[Any, Any]] = {
    "reference": (G, "v"),
    "part": (Ref("parts", ("a", 0)), "v"),
    "template": (Template("{} {}", G, G), "v v"),
    "container": ({"user": G, "keys": [G]}, {"user": "v", "keys": ["v"]}),
    "items": (Each(Ref("parts", ("a",))), "v"),
    "no default": (Ref("none", default=None), None),
}


class Vault:
    """Tools, one of which takes a secret, and what it was given."""

    def __init__(self, *, asks: bool = False) -> None:
        self.seen: list[Any] = []
        self.told: list[object] = []

        @tool(effect="read")
        async def get() -> str:
            return "v"

        @tool(effect="read")
        async def parts() -> dict[str, Any]:
            return {"a": ["v"]}

        @tool(effect="read")
        async def none() -> None:
            msg = "there is nothing"
            raise ValueError(msg)

        @tool(name="open_with_token", effect="read", secret="token", approval=asks)
        async def opened(token: Any) -> int:
            self.seen.append(token)
            return 1

        self.tools = [get, parts, none, opened]

    def executor(self, journal: Any) -> Executor:
        return Executor(self.tools, journal=journal, observers=[self.told.append])


def plan_of(token: Any) -> Plan:
    makers = [Call("g", "get"), Call("parts", "parts"), Call("none", "none")]
    return Plan([*makers, Call("o", "open_with_token", {"token": token})])


async def stream_of(plan: Plan):
    for call in plan.calls:
        yield call
        await anyio.sleep(0)


async def stored(journal: Any) -> bytes:
    """Return all that a journal holds: the bytes of its files, where it has any."""
    if isinstance(journal, SqliteJournal):
        folder = journal.path.parent
        return b"".join(each.read_bytes() for each in folder.iterdir() if each.is_file())
    return repr(await journal.read("run")).encode()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", WRITTEN)
async def test_what_is_written_is_in_no_journal_and_no_text(kind, streamed, journal, caplog):
    """Whatever stands beside it; the tool gets all of it."""
    caplog.set_level(logging.DEBUG)
    token, given = WRITTEN[kind]
    vault, plan = Vault(), plan_of(token)
    report = await vault.executor(journal).run(stream_of(plan) if streamed else plan, run_id="run")
    assert report["o"].status == "done"
    assert vault.seen[0] == given
    kept = await stored(journal)
    assert b"open_with_token" in kept
    assert SECRET.encode() not in kept
    for text in (repr(plan.calls), repr(vault.told), report.to_json(), caplog.text, repr(report)):
        assert SECRET not in text
    again = Report.from_json(report.to_json())
    assert again.plan["o"].needs == plan["o"].needs
    assert again.plan["o"].waits == plan["o"].waits
    assert again.plan["o"].each == plan["o"].each


@pytest.mark.parametrize("kind", WRITTEN)
async def test_a_run_goes_on_with_its_plan_only(kind, journal):
    """By itself it does not; the same plan is known again, and another one is refused."""
    token, given = WRITTEN[kind]
    vault, plan = Vault(asks=True), plan_of(token)
    report = await vault.executor(journal).run(plan, run_id="run")
    waiting = [name for name, each in report.items() if each.question is not None]
    assert waiting
    answers = dict.fromkeys(waiting, Approve())
    with pytest.raises(DagexecError, match="does not keep 'token' of call 'o"):
        await vault.executor(journal).resume("run", answers)
    with pytest.raises(DagexecError, match="was begun with another plan"):
        await vault.executor(journal).resume("run", answers, plan=plan_of(Ref("parts")))
    report = await vault.executor(journal).resume("run", answers, plan=plan)
    assert report["o"].status == "done"
    assert vault.seen[0] == given
    assert SECRET.encode() not in await stored(journal)
    assert (await vault.executor(journal).resume("run")).outputs == report.outputs


@pytest.mark.parametrize("kind", REFERRED)
async def test_a_reference_is_no_secret(kind, journal):
    """It is kept, so the run goes on without its plan."""
    token, given = REFERRED[kind]
    vault, plan = Vault(asks=True), plan_of(token)
    report = await vault.executor(journal).run(plan, run_id="run")
    waiting = [name for name, each in report.items() if each.question is not None]
    assert waiting
    report = await vault.executor(journal).resume("run", dict.fromkeys(waiting, Approve()))
    assert report["o"].status == "done"
    assert vault.seen == [given]
    assert Report.from_json(report.to_json()).plan["o"] == plan["o"]


def test_a_template_keeps_its_defaults_in_json():
    """By the texts of its references; what fits none is refused."""
    template = Template("{} of {} and {}", Ref("a", (0,), None), G, Ref("b", default={"k": 1}))
    call = Call("t", "show", {"text": template})
    body = call.to_dict()
    assert body["args"]["text"]["defaults"] == {"a[0]": None, "b": {"k": 1}}
    assert Call.from_dict(body) == call
    assert Call.from_dict(body).waits == ("a", "b")
    for wrong in ({"c": 1}, ["a"], {"a": 1}):
        with pytest.raises(PlanError, match='"defaults"'):
            Call("t", "show", {"text": {"$template": "${a[0]}", "defaults": wrong}})


async def test_what_a_secret_leaves_makes_the_same_graph():
    """In a journal, too: the call waits for the same calls, and fails with the same ones."""
    token = [Template("hunter2 {}", G), Ref("none", default=SECRET), {SECRET: Ref("parts")}]
    vault, plan, journal = Vault(), plan_of(token), MemoryJournal()
    await vault.executor(journal).run(plan, run_id="run")
    first = (await journal.read("run"))[0]
    kept = Call.from_dict(next(each for each in first.body["calls"] if each["id"] == "o"))
    assert (
        (kept.needs, kept.waits)
        == (plan["o"].needs, plan["o"].waits)
        == (("g", "parts"), ("none",))
    )
