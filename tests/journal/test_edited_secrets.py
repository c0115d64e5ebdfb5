"""What a person gives a secret argument with an `Edit`: who gets it, and that nobody keeps it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from dagexec import (
    Approve,
    Call,
    DagexecError,
    Deny,
    Done,
    Each,
    Edit,
    Executor,
    Plan,
    Ref,
    ask,
    tool,
)
from dagexec.journal import MemoryJournal, SqliteJournal
from dagexec.lowlevel import Reopened

pytestmark = [pytest.mark.anyio, pytest.mark.real_time, pytest.mark.timeout(240)]
SECRET, OTHER, PLAN = "hunter2", "correct horse", "of the plan"
ROOT = Path(__file__).parent.parent.parent
# What a person may give: each holds the secret somewhere.
GIVEN: dict[str, Any] = {
    "text": SECRET,
    "mapping": {"user": "ann", "password": SECRET},
    "deep": {"a": [{SECRET: 1}, ["x"]]},
    "looks like a reference": {"$ref": SECRET},
    "number": [4711, SECRET],
}


class Vault:
    """Tools that take a secret, and what they were given."""

    def __init__(self, effect: str = "write", *, dies: bool = False) -> None:
        self.seen: list[Any] = []
        self.told: list[object] = []
        self.dies = dies

        @tool(effect="read")
        async def get() -> str:
            return "v"

        @tool(name="open_vault", effect=effect, secret=("token", "key"), approval=True, retry=None)
        async def opened(to: str, token: Any, key: Any = None, asks: bool = False) -> str:
            self.seen.append((to, token, key))
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return f"{await ask('sure?')} {to}" if asks else to

        self.tools = [get, opened]

    def executor(self, journal: Any, **settings: Any) -> Executor:
        return Executor(self.tools, journal=journal, observers=[self.told.append], **settings)


def plan_of(token: Any = PLAN, **more: Any) -> Plan:
    return Plan(
        [Call("g", "get"), Call("o", "open_vault", {"to": Ref("g"), "token": token} | more)]
    )


async def stored(journal: Any) -> bytes:
    """Return all that a journal holds: the bytes of its files, where it has any."""
    if isinstance(journal, SqliteJournal):
        folder = journal.path.parent
        return b"".join(each.read_bytes() for each in folder.iterdir() if each.is_file())
    return repr([await journal.read(info.id) for info in await journal.runs()]).encode()


async def cut_after(journal: Any, count: int, copy: Any) -> Any:
    """Have another journal of a run that was killed when so much of it was recorded."""
    first, *rest = (await journal.read("run"))[:count]
    session = await copy.claim("run", first)
    for record in rest:
        session.append(record, lambda error: None)
    await session.release("open")
    return copy


def another(journal: Any, number: int = 0) -> Any:
    """Return an empty journal of the same kind."""
    if isinstance(journal, MemoryJournal):
        return MemoryJournal()
    return SqliteJournal(journal.path.with_name(f"copy {number}.db"))


@pytest.mark.parametrize("kind", GIVEN)
async def test_it_reaches_the_tool_and_no_journal_and_no_text(kind, journal, caplog):
    """Beside a reference and another argument that a person changes."""
    caplog.set_level(logging.DEBUG)
    vault, answer = Vault(), Edit({"to": "me", "token": GIVEN[kind]})
    await vault.executor(journal).run(plan_of(), run_id="run")
    report = await vault.executor(journal).resume("run", {"o": answer})
    assert report["o"].value == "me"
    assert vault.seen == [("me", GIVEN[kind], None)]
    kept = await stored(journal)
    assert b"open_vault" in kept
    for text in (repr(answer), repr(vault.told), report.to_json(), caplog.text, repr(report)):
        assert SECRET not in text
    assert SECRET.encode() not in kept
    assert PLAN.encode() not in kept


def test_repr_of_an_edit():
    """It does not know the tool; what any tool declares secret is hidden."""
    Vault()
    assert (
        repr(Edit({"to": "me", "token": SECRET})) == "Edit(args={'to': 'me', 'token': '<secret>'})"
    )
    assert Edit({"token": SECRET}) == Edit({"token": SECRET}) != Edit({"token": OTHER})


async def test_a_run_that_was_killed_at_any_point_never_runs_with_what_was_changed(journal):
    """It asks again for what is gone, and what is done stays done."""
    first = Vault()
    await first.executor(journal).run(plan_of(), run_id="run")
    await first.executor(journal).resume("run", {"o": Edit({"to": "me", "token": SECRET})})
    records = await journal.read("run")
    answered = next(n for n, each in enumerate(records) if each.kind == "answer")
    for count in range(answered + 1, len(records) + 1):
        copy = await cut_after(journal, count, another(journal, count))
        vault = Vault()
        report = await vault.executor(copy).resume("run")
        assert not vault.seen
        if report["o"].status == "in_doubt":  # it had begun
            report = await vault.executor(copy).resume("run", {"o": Approve()})
            assert not vault.seen
        if report["o"].status == "done":
            assert count >= len(records) - 1
            continue
        assert report["o"].question == {
            "approve": "open_vault",
            "args": {"to": "me", "token": "<secret>"},
            "missing": ["token"],
        }
        for wrong in (Approve(), Edit({"to": "you"}), Edit({"to": "you", "token": "<secret>"})):
            with pytest.raises(DagexecError, match="another 'token', which is secret") as caught:
                await vault.executor(copy).resume("run", {"o": wrong})
            assert SECRET not in str(caught.value)
        report = await vault.executor(copy).resume("run", {"o": Edit({"token": OTHER})})
        assert report["o"].value == "me"
        assert vault.seen == [("me", OTHER, None)]
        assert (await vault.executor(copy).resume("run")).outputs == {"g": "v", "o": "me"}
        assert len(vault.seen) == 1


@pytest.mark.parametrize("effect", ["read", "write"])
@pytest.mark.parametrize("again", [SECRET, OTHER])
async def test_the_answer_again_brings_what_is_gone(effect, again, journal):
    """Whoever goes on after a crash with the answers that he had need not be asked once more.

    Which of two secrets it was is kept nowhere: the one that is given last is taken.
    """
    first = Vault(effect)
    await first.executor(journal).run(plan_of(), run_id="run")
    await first.executor(journal).resume("run", {"o": Edit({"to": "me", "token": SECRET})})
    records = await journal.read("run")
    answered = next(n for n, each in enumerate(records) if each.kind == "answer")
    for count in range(answered + 1, len(records)):
        if records[count - 1].kind == "settled":
            continue
        copy = await cut_after(journal, count, another(journal, count))
        vault = Vault(effect)
        answers = {"o": Edit({"to": "me", "token": again})}
        report = await vault.executor(copy, in_doubt="rerun").resume("run", answers)
        assert report["o"].value == "me"
        assert vault.seen == [("me", again, None)]
        assert SECRET.encode() not in await stored(copy)
        assert OTHER.encode() not in await stored(copy)


async def test_an_answer_given_twice_is_compared_without_its_secrets(journal):
    """To a call that is done it is none, and one with other arguments is refused."""
    vault = Vault()
    await vault.executor(journal).run(plan_of(), run_id="run")
    for token in (SECRET, SECRET, OTHER):
        answers = {"o": Edit({"to": "me", "token": token})}
        report = await vault.executor(journal).resume("run", answers)
        assert report["o"].status == "done"
    assert vault.seen == [("me", SECRET, None)]
    for other in ({"to": "you", "token": SECRET}, {"to": "me"}, {"token": SECRET}):
        with pytest.raises(DagexecError, match="is done: it does not wait"):
            await vault.executor(journal).resume("run", {"o": Edit(other)})
    assert len(vault.seen) == 1


async def test_two_secrets_of_one_call(journal):
    """Each is asked for again; what is given for one of them is not taken for both."""
    first = Vault()
    await first.executor(journal).run(plan_of(), run_id="run")
    await first.executor(journal).resume("run", {"o": Edit({"token": SECRET, "key": OTHER})})
    assert first.seen == [("v", SECRET, OTHER)]
    records = await journal.read("run")
    answered = next(n for n, each in enumerate(records) if each.kind == "answer")
    copy, vault = await cut_after(journal, answered + 1, another(journal)), Vault()
    report = await vault.executor(copy).resume("run")
    assert report["o"].question["missing"] == ["token", "key"]
    with pytest.raises(DagexecError, match="another 'key'"):
        await vault.executor(copy).resume("run", {"o": Edit({"token": SECRET})})
    report = await vault.executor(copy).resume("run", {"o": Edit({"token": SECRET, "key": None})})
    assert vault.seen == [("v", SECRET, None)]
    assert report.ok


@pytest.mark.parametrize(("answer", "status"), [(Deny("no"), "failed"), (Done("x"), "done")])
async def test_it_may_be_decided_without_the_secret(answer, status, journal):
    """The call need not run for that, and no plan is needed."""
    first = Vault()
    await first.executor(journal).run(plan_of(), run_id="run")
    await first.executor(journal).resume("run", {"o": Edit({"token": SECRET})})
    records = await journal.read("run")
    answered = next(n for n, each in enumerate(records) if each.kind == "answer")
    copy, vault = await cut_after(journal, answered + 1, another(journal)), Vault()
    await vault.executor(copy).resume("run")
    report = await vault.executor(copy).resume("run", {"o": answer})
    assert report["o"].status == status
    assert not vault.seen


async def test_a_tool_that_asks_needs_it_again(journal):
    """It begins anew with each answer, as with a secret of the plan; its answers are kept."""
    vault = Vault()
    await vault.executor(journal).run(plan_of(asks=True), run_id="run")
    report = await vault.executor(journal).resume("run", {"o": Edit({"token": SECRET})})
    assert report["o"].question == "sure?"
    report = await vault.executor(journal).resume("run", {"o": "yes"})
    assert report["o"].question["missing"] == ["token"]
    report = await vault.executor(journal).resume("run", {"o": Edit({"token": SECRET})})
    assert report["o"].value == "yes v"
    assert vault.seen == [("v", SECRET, None)] * 2
    assert SECRET.encode() not in await stored(journal)


async def test_items_of_a_list_are_edited_one_by_one(journal):
    """Each with a secret of its own."""
    vault = Vault()
    plan = Plan([Call("o", "open_vault", {"to": Each(["a", "b"]), "token": None})])
    await vault.executor(journal).run(plan, run_id="run")
    answers = {"o[0]": Edit({"token": SECRET}), "o[1]": Edit({"token": OTHER})}
    report = await vault.executor(journal).resume("run", answers)
    assert report["o"].value == ["a", "b"]
    assert sorted(vault.seen) == [("a", SECRET, None), ("b", OTHER, None)]
    kept = await stored(journal)
    assert SECRET.encode() not in kept
    assert OTHER.encode() not in kept


@pytest.mark.parametrize("given_again", [True, False])
async def test_what_finds_out_about_a_doubt_is_not_misled(given_again, journal, caplog):
    """A hook is not given the arguments of before the change; a person is asked."""
    asked: list[Any] = []

    def of(log: list[Any], reconcile: Any = None) -> Any:
        @tool(secret="token", approval=True, reconcile=reconcile)
        async def send(token: str) -> str:
            log.append(token)
            return "sent"

        return Executor([send], journal=journal)

    plan = Plan([Call("s", "send", {"token": PLAN})])
    await of([]).run(plan, run_id="run")
    await of([]).resume("run", {"s": Edit({"token": SECRET})})
    records = await journal.read("run")
    begun = next(n for n, each in enumerate(records) if each.kind == "started")
    journal = await cut_after(journal, begun + 1, another(journal))

    def reconcile(context: Any, args: dict[str, Any]) -> object:
        asked.append(args)
        return Done("found")

    if given_again:  # it is known again what the call was begun with
        answers = {"s": Edit({"token": SECRET})}
        report = await of([], reconcile).resume("run", answers)
        assert asked == [{"token": SECRET}]
        assert report["s"].value == "found"
    else:
        report = await of([], reconcile).resume("run", plan=plan)
        assert report["s"].status == "in_doubt"
        assert not asked
    assert SECRET not in caplog.text


async def killed(path: str, effect: str, when: str) -> None:
    """Answer the run of a journal, and die when the answer is recorded, or when the tool runs."""

    def die(event: object) -> None:
        if when == "answered" and isinstance(event, Reopened):
            os.kill(os.getpid(), signal.SIGKILL)

    executor = Executor(
        Vault(effect, dies=True).tools, journal=SqliteJournal(path), observers=[die]
    )
    await executor.resume("run", {"o": Edit({"to": "me", "token": SECRET})})


@pytest.mark.parametrize("when", ["answered", "running"])
@pytest.mark.parametrize("effect", ["read", "write"])
async def test_a_process_that_dies(effect, when, folder):
    """Between the record and the run, or inside the tool; another process goes on.

    It may be given the answer again; that is the same as far as the journal tells.
    """
    path = folder / "one" / "runs.db"
    path.parent.mkdir()
    with SqliteJournal(path) as journal:
        await Vault(effect).executor(journal).run(plan_of(), run_id="run")
    command = [sys.executable, "-m", __name__, str(path), effect, when]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=200)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-3000:]
    shutil.copytree(path.parent, folder / "other")
    edit = Edit({"to": "me", "token": SECRET})
    doubtful = effect == "write" and when == "running"
    for name, answers, status in (("one", {}, "pending"), ("other", {"o": edit}, "done")):
        vault = Vault(effect)
        with SqliteJournal(folder / name / "runs.db") as journal:
            assert SECRET.encode() not in await stored(journal)
            report = await vault.executor(journal).resume("run", answers)
            assert report["o"].status == ("in_doubt" if doubtful else status)
            if doubtful:
                report = await vault.executor(journal).resume("run", {"o": Approve()})
            if report["o"].status == "pending":
                assert not vault.seen
                report = await vault.executor(journal).resume("run", {"o": edit})
            assert report["o"].value == "me"
            assert vault.seen == [("me", SECRET, None)]
            assert SECRET.encode() not in await stored(journal)


def agent_over(calls: list[Call], tools: list[Any], journal: Any, effect: str) -> Executor:
    """Return an executor with a tool that runs calls of tools that only it knows."""
    inner = Executor(tools, journal=journal)

    @tool(effect=effect)
    async def agent() -> dict[str, Any]:
        report = await inner.run(calls)
        report.raise_for_failures()
        return dict(report.outputs)

    return Executor([agent], journal=journal)


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("effect", ["read", "write"])
async def test_a_call_inside_another(effect, by_name, journal):
    """Neither the journal of the outer run nor that of the inner one keeps it, at any point."""
    calls = [Call("o", "open_vault", {"to": "x", "token": PLAN})]
    edit = Edit({"to": "me", "token": SECRET})
    vault = Vault()
    await agent_over(calls, vault.tools, journal, effect).run([Call("1", "agent")], run_id="run")
    answers = {"1": {"o": edit} if by_name else edit}
    before = {info.id: await journal.read(info.id) for info in await journal.runs()}
    report = await agent_over(calls, vault.tools, journal, effect).resume("run", answers)
    assert report["1"].value == {"o": "me"}
    assert vault.seen == [("me", SECRET, None)]
    assert SECRET.encode() not in await stored(journal)
    again = await agent_over(calls, vault.tools, journal, effect).resume("run", answers)
    assert again.outputs == report.outputs
    after = {info.id: await journal.read(info.id) for info in await journal.runs()}
    inner_id = next(each for each in after if each != "run")
    # The outer run was told; the inner one not, or as much as each of these.
    for count in range(len(before["run"]) + 1, len(after["run"])):
        if after["run"][count - 1].kind == "settled":
            continue
        for known in range(len(before[inner_id]), len(after[inner_id])):
            copy = another(journal, 1000 * count + known)
            kept = {"run": after["run"][:count], inner_id: after[inner_id][:known]}
            for run_id, (head, *rest) in kept.items():
                session = await copy.claim(run_id, head)
                for record in rest:
                    session.append(record, lambda error: None)
                await session.release("waiting" if run_id == inner_id else "open")
            await goes_on(calls, copy, effect)


async def goes_on(calls: list[Call], journal: Any, effect: str) -> None:
    """A run that was killed asks again, and ends with what is given then."""
    vault = Vault()
    report = await agent_over(calls, vault.tools, journal, effect).resume("run")
    for _ in range(4):
        if report["1"].status == "in_doubt":
            answer: Any = Approve()
        elif report["1"].status == "pending":
            (wait,) = report["1"].question["nested"]
            answer = Approve()
            if wait["for"] == "approval":
                assert wait["question"]["missing"] == ["token"]
                with pytest.raises(DagexecError, match="another 'token'"):
                    await agent_over(calls, vault.tools, journal, effect).resume(
                        "run", {"1": answer}
                    )
                answer = {"o": Edit({"token": OTHER})}
        else:
            break
        report = await agent_over(calls, vault.tools, journal, effect).resume("run", {"1": answer})
    assert report["1"].status == "done", report["1"]
    assert vault.seen in ([("me", OTHER, None)], [])


if __name__ == "__main__":
    anyio.run(killed, *sys.argv[1:])
