"""A call that waits for a person, or hangs, holds only what depends on it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dagexec import Approve, Call, Deny, Done, Edit, Executor, Timeouts, ask, tool
from dagexec.journal import MemoryJournal
from dagexec.programs import Program, ProgramStopped, program_tool, told

pytestmark = pytest.mark.anyio


class Office:
    """Tools of which some need a person; what they did is written down."""

    def __init__(self) -> None:
        self.log: list[str] = []

        @tool(effect="read", reads=["archive"])
        async def look(name: str) -> dict[str, Any]:
            await anyio.sleep(1e6 if name == "hung" else 1)
            self.log.append(f"look {name}")
            return {"name": name, "n": len(name)}

        @tool(effect="read", reads=["people"])
        async def question(text: str) -> Any:
            answer = await ask(text)
            self.log.append(f"asked {text}")
            return answer

        @tool(approval=True, writes=["account"])
        async def pay(amount: int) -> str:
            self.log.append(f"pay {amount}")
            return f"paid {amount}"

        @tool(writes=["notes"])
        async def note(text: str) -> str:
            self.log.append(f"note {text}")
            return text

        self.tools = [look, question, pay, note]
        self.journal = MemoryJournal()

    def executor(self, **options: Any) -> Executor:
        return Executor(self.tools, journal=self.journal, **options)

    async def run(self, source: str, **options: Any) -> Any:
        return await self.executor(**options).run(Program(source), run_id="r")

    async def answer(self, source: str, **answers: Any) -> Any:
        """Go on in another executor, as another process would days later."""
        given = {name.lstrip("_"): value for name, value in answers.items()}
        return await self.executor().resume("r", answers=given, plan=Program(source))


QUESTION = """
name = question("who?")
a = look("a")
b = look("b" * a["n"] + "b")
note("before the answer?")
total = a["n"] + b["n"]
print(total)
look(name)["name"]
"""


async def test_a_question_holds_only_what_needs_its_answer() -> None:
    office = Office()
    report = await office.run(QUESTION)
    assert report["1"].status == "pending"
    assert report.elapsed == pytest.approx(2, abs=0.01)
    assert office.log == ["look a", "look bb"]  # a write behind the question is not certain yet
    assert isinstance(report.error, ProgramStopped)
    assert "line 8; it waited for question() (call 1, line 2)" in str(report.error)
    report = await office.answer(QUESTION, _1="c")
    assert report.error is None, report.error
    assert (report.result, report.printed) == ("c", "3\n")
    assert sorted(office.log[2:]) == ["asked who?", "look c", "note before the answer?"]


@pytest.mark.parametrize(
    ("answer", "result", "written"),
    [
        (Approve(), ["two", 3], ["one", "two", "two"]),
        (Done("by hand"), ["by hand", 3], ["one", "two"]),
        (Deny("it did not happen"), None, ["one", "two"]),
    ],
)
async def test_a_write_in_doubt_holds_only_what_needs_it(
    answer: object, result: list[object] | None, written: list[str]
) -> None:
    """After a crash over a write, which is never made again without an answer."""
    office, log = Office(), []

    @tool(writes=["notes"])
    async def write(text: str) -> str:
        log.append(text)
        if len(log) == 2:
            await anyio.sleep(1e6)  # until its process dies
        return text

    office.tools.append(write)
    source = """
write("one")
second = write("two")
[second, look("abc")["n"]]
"""
    with anyio.move_on_after(5):
        await office.run(source)
    report = await office.run(source)
    assert report["2"].status == "in_doubt"
    assert isinstance(report.error, ProgramStopped)
    assert log == ["one", "two"]
    assert office.log == ["look abc"]
    report = await office.answer(source, _2=answer)
    assert report.result == result, report.error
    assert (report.error is None) is (result is not None)
    assert log == written
    assert office.log == ["look abc"]


async def test_two_questions_are_asked_at_once_and_answered_one_by_one() -> None:
    office = Office()
    source = "[question('one'), question('two')]"
    report = await office.run(source)
    assert [each.status for each in report.values()] == ["pending", "pending"]
    report = await office.answer(source, _2=2)
    assert [each.status for each in report.values()] == ["pending", "done"]
    assert isinstance(report.error, ProgramStopped)
    report = await office.answer(source, _1=1)
    assert report.result == [1, 2]


async def test_an_approval_holds_what_is_behind_it_only_where_it_could_tell() -> None:
    office = Office()
    source = "p = pay(5)\nx = look('x')\ny = look(x['name'] + 'y')\nnote(p)\n[p, y['n']]"
    report = await office.run(source)
    assert report["1"].status == "pending"
    assert office.log == ["look x", "look xy"]
    report = await office.answer(source, _1=Edit({"amount": 3}))
    assert report.result == ["paid 3", 2]
    assert office.log == ["look x", "look xy", "pay 3", "note paid 3"]


async def test_what_a_person_denies_raises_in_the_program() -> None:
    office = Office()
    source = (
        "try:\n    p = pay(5)\nexcept ToolError as e:\n    p = e.status\nx = look('x')\nnote(p)\np"
    )
    report = await office.run(source)
    assert report["1"].status == "pending"
    report = await office.answer(source, _1=Deny("too dear"))
    assert report.result == "failed"
    assert office.log == ["look x", "note failed"]


async def test_an_approval_in_a_loop_is_asked_for_one_by_one() -> None:
    office = Office()
    source = "[pay(n) for n in range(1, 4)]"
    report = await office.run(source)
    for number in range(1, 4):
        assert [name for name, each in report.items() if each.status == "pending"] == [str(number)]
        report = await office.answer(source, **{f"_{number}": Approve()})
    assert report.result == ["paid 1", "paid 2", "paid 3"]
    assert office.log == ["pay 1", "pay 2", "pay 3"]


async def test_one_hung_call_costs_only_what_needs_it() -> None:
    """The rest is there in time, and the answer says where the program stands."""
    office = Office()
    source = (
        "a = look('a')\nh = look('hung')\nb = look('b')\nprint(a['name'], b['name'])\n"
        "rows = [look('c' * n)['n'] for n in range(1, 4)]\nif h['n']:\n    note('never')\nrows"
    )
    report = await office.run(source, timeouts=Timeouts(call=None, workflow=10))
    assert report.elapsed == pytest.approx(10, abs=0.01)
    done = {name: each.ended for name, each in report.items() if each.status == "done"}
    assert done == {name: pytest.approx(1, abs=0.01) for name in ("1", "3", "4", "5", "6")}
    assert report["2"].status == "timed_out"
    assert report.printed == "a b\n"
    assert "at line 6; it waited for look() (call 2, line 2)" in str(report.error)


async def test_the_answer_of_a_program_with_a_hung_call_says_where_it_stands() -> None:
    office = Office()
    source = "a = look('a')\nprint(a['name'])\nh = look('hung')\nb = look('b')\nh['n'] + b['n']"
    run_program = program_tool(Executor(office.tools), text=False)
    executor = Executor([run_program], timeouts=Timeouts(call=None, turn=5))
    report = await executor.run([Call("1", "run_program", {"source": source})])
    answer = report["1"].value
    assert report.elapsed < 5
    assert answer["printed"] == "a\n"
    assert "look(name='hung'): timed out" in told(answer)
    assert "line 5" in told(answer) or "line 3" in told(answer)
    assert {each["args"]["name"] for each in answer["calls"]} == {"a", "b"}
