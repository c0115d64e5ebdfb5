"""Programs that models write: a tool of an API, or a block in a text."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from dagexec import Approve, DagexecError, Executor, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.programs import program_tool
from dagexec.testing import ScriptedModel, check_conversation
from planners import Dialogue, solve
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner
from planners.programs import ProgramPlanner, with_programs
from planners.programs._blocks import program_in

pytestmark = pytest.mark.anyio
PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}


class Shop:
    """A shop with books; its orders are counted."""

    def __init__(self) -> None:
        self.orders: list[str] = []

        @tool(effect="read")
        async def books(kind: str) -> list[dict[str, Any]]:
            """List the books of a kind."""
            await anyio.sleep(1)
            return [{"title": f"{kind} {n}", "price": n} for n in range(1, 4)]

        @tool
        async def order(title: str) -> str:
            """Order a book."""
            await anyio.sleep(1)
            self.orders.append(title)
            return f"ordered {title}"

        @tool(approval=True)
        async def pay(amount: int) -> str:
            """Pay."""
            self.orders.append(f"paid {amount}")
            return "paid"

        self.tools = [books, order, pay]


@pytest.fixture(params=PLANNERS)
def api(request: Any) -> Any:
    """Return each of the three APIs in turn."""
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: Any) -> Any:
    """Say whether replies are streamed."""
    return request.param


def setting(api: str, script: list[Any], shop: Shop, planner: Any = None, **options: Any) -> Any:
    model = ScriptedModel(script)
    client = model.anthropic() if api == "messages" else model.openai()
    planner = planner or with_programs(PLANNERS[api](shop.tools))
    executor = Executor(shop.tools, **options)
    return {"planner": planner, "client": client, "model": "m", "executor": executor}, model


def program(*lines: str, **args: Any) -> Any:
    return [("run_program", {"source": "\n".join(lines), **args})]


def told(model: Any) -> str:
    """Return the last request as text."""
    return json.dumps(model.bodies[-1], ensure_ascii=False)


async def test_a_model_writes_programs(api: str, stream: bool) -> None:
    shop = Shop()
    script = [
        program("rows = books('crime') + books('art')", "print(len(rows))", "rows"),
        program("[order(r['title']) for r in rows if r['price'] > 2] + [len(_[1])]"),
        "Done.",
    ]
    options, model = setting(api, script, shop)
    solution = await solve("Order the dear ones.", stream=stream, **options)
    assert solution.status == "done"
    assert sorted(shop.orders) == ["art 3", "crime 3"]
    assert solution.elapsed == pytest.approx(3, abs=0.1)  # both kinds at once, two writes in order
    assert "ordered crime 3" in told(model)
    assert "[call 2]" in told(model)
    check_conversation(options["planner"].api.name, model.bodies[-1])


@pytest.mark.parametrize("only", [False, True])
async def test_beside_the_tools_or_instead_of_them(api: str, only: bool) -> None:
    planner = with_programs(PLANNERS[api](Shop().tools), only=only)
    assert planner.names == (() if only else ("books", "order", "pay")) + ("run_program",)
    assert len(planner.tools) == (1 if only else 4)
    assert "def books(kind: str) -> list[dict[str, Any]]:" in planner.instructions
    assert ("$ref" in planner.instructions) is not only


async def test_a_call_refers_to_a_program_and_a_program_to_a_call(api: str) -> None:
    shop = Shop()
    script = [
        [("books", {"kind": "art"})],
        program("best = _[1][0]['title']", "best"),
        [("order", {"title": {"$ref": "2.variables.best"}})],
        "Done.",
    ]
    options, _ = setting(api, script, shop)
    solution = await solve("…", **options)
    assert solution.status == "done"
    assert shop.orders == ["art 1"]


async def test_a_corrected_program_repeats_no_write(api: str) -> None:
    shop = Shop()
    script = [
        program("order('a')", "rows = books('art')", "rows[0]['titel']"),
        program("order('a')", "rows = books('art')", "rows[0]['title']"),
        "Done.",
    ]
    options, model = setting(api, script, shop)
    solution = await solve("…", **options)
    assert solution.status == "done"
    assert shop.orders == ["a"]
    assert "[call 1: failed]" in told(model)
    assert "KeyError" in told(model)
    assert "not repeated when you send the corrected program" in told(model)
    assert "Done before, and not repeated" in told(model)


async def test_a_program_that_is_none_is_told_why(api: str) -> None:
    options, model = setting(api, [program("import os"), "Sorry."], Shop())
    solution = await solve("…", **options)
    assert solution.status == "done"
    assert "there is no module os" in told(model)


async def test_a_long_value_is_short_and_whole_in_the_next_program(api: str) -> None:
    script = [program("['x' * 100] * 1000"), program("len(_[1])"), "Done."]
    options, model = setting(api, script, Shop())
    await solve("…", **options)
    assert len(told(model)) < 40_000
    assert "`_[1]` is the whole value" in told(model)
    assert "value:\\\\n1000" in told(model) or "value:\\n1000" in told(model)


async def test_a_conversation_goes_on_from_json(api: str) -> None:
    shop = Shop()
    options, _ = setting(api, [program("order('a')", "x = 7", "no"), "?"], shop)
    solution = await solve("…", **options)
    text = solution.conversation.to_json()
    again, _ = setting(api, [program("order('a')", "x = 7"), program("x + 1"), "Done."], shop)
    talk = Dialogue.from_json(text, again["planner"])
    solution = await solve("Again.", conversation=talk, **again)
    assert shop.orders == ["a"]
    assert solution.reports[-1]["3"].value["result"] == 8


async def test_a_deadline_leaves_what_is_done(api: str) -> None:
    shop = Shop()
    options, _ = setting(
        api,
        [program("print('begun')", "order('a')", "for i in range(100): order(str(i))"), "Done."],
        shop,
        timeouts=Timeouts(turn=5),
    )
    solution = await solve("…", **options)
    value = solution.reports[0]["1"].value
    assert value["printed"] == "begun\n"
    assert "stood at line 3" in value["error"]


async def test_a_person_answers_in_the_middle_of_a_program(api: str) -> None:
    shop = Shop()
    script = [program("order('a')", "pay(5)", "order('b')"), "Done."]
    journal = MemoryJournal()
    options, _ = setting(api, script, shop)
    solution = await solve("…", journal=journal, run_id="c", **options)
    assert solution.status == "pending"
    assert shop.orders == ["a"]
    talk = solution.conversation
    executor = Executor(shop.tools, journal=journal)
    report = await talk.planner.equipped(executor).resume(
        solution.reports[0].run_id, answers={"1": Approve()}
    )
    assert shop.orders == ["a", "paid 5", "b"], report["1"]
    assert report["1"].value["result"] == "ordered b"


@pytest.mark.parametrize("turns", [1, 2])
async def test_a_plain_executor_resumes_a_turn_with_a_program(api: str, turns: int) -> None:
    """What the program found of earlier programs is recorded with it."""
    shop, journal = Shop(), MemoryJournal()
    script = [
        program("first = order('a')", "rows = books('art')"),
        program("note = first + '!'", "order('b')", "no"),
        program("note = first + '!'", "order('b')", "pay(5)", "[note, order('c'), len(rows)]"),
    ]
    if turns == 1:
        script = [program("first = order('a')", "pay(5)", "order(first)")]
    options, _ = setting(api, script, shop)
    solution = await solve("…", journal=journal, run_id="c", **options)
    assert solution.status == "pending"
    waiting = next(iter(solution.reports[-1]))
    executor = Executor(shop.tools, journal=journal)
    report = await executor.resume(solution.reports[-1].run_id, answers={waiting: Approve()})
    assert report.ok, report[waiting]
    if turns == 1:
        assert shop.orders == ["a", "paid 5", "ordered a"]
    else:
        assert shop.orders == ["a", "b", "paid 5", "c"]
        assert report[waiting].value["result"] == ["ordered a!", "ordered c", 3]


async def test_a_crash_costs_no_write_twice(api: str) -> None:
    shop, journal = Shop(), MemoryJournal()
    script = [program("order('a')", "crash()", "order('b')"), "Done."]

    class Crash(BaseException):
        pass

    crashes = True

    @tool(effect="read")
    async def crash() -> int:
        if crashes:
            raise Crash
        return 1

    shop.tools.append(crash)
    options, _ = setting(api, script, shop)
    with pytest.raises(Crash):
        await solve("…", journal=journal, run_id="c", **options)
    crashes = False
    options, _ = setting(api, ["Done."], shop)
    solution = await solve("…", journal=journal, run_id="c", **options)
    assert solution.status == "done"
    assert shop.orders == ["a", "b"]


@pytest.mark.parametrize("name", ["chat", "messages"])
async def test_any_chat_model_writes_programs(name: str, stream: bool) -> None:
    shop = Shop()
    script = [
        "I look.\n```python\nrows = books('art')\nrows[0]['titel']\n```\n",
        "```program\nrows = books('art')\norder(rows[0]['title'])\n```",
        "It is ordered:\n```python\nprint('hello')\n```",
    ]
    options, model = setting(name, script, shop, ProgramPlanner(shop.tools))
    solution = await solve("…", stream=stream, **options)
    assert solution.status == "done"
    assert solution.text.startswith("It is ordered")
    assert shop.orders == ["art 1"]
    assert "KeyError" in told(model)
    assert "tools" not in model.bodies[-1]


async def test_a_block_that_was_cut_off_does_not_run() -> None:
    shop = Shop()
    planner = ProgramPlanner(shop.tools)
    plan = planner.plan("```program\norder('a')\nord")
    report = await planner.equipped(Executor(shop.tools)).run(plan)
    assert shop.orders == []
    assert "cut off" in json.dumps(planner.results(report))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no program", None),
        ("```program\na\n```", ("a", True)),
        ("x\n```Python\nf(1)\n```\ny\n~~~py\nf(2)\n~~~", ("f(1)\nf(2)", True)),
        ("```python\nprint(1)\n```", None),
        ("This does it:\n```python\nf(1)\n```\nHave fun!", None),
        ("```python\nf(1)\n```\n```text\nout\n```", None),
        ("```program\na\n```\nlike\n```python\nf(1)\n```\n", ("a", True)),
        ("```program\na\n```\nI wait.", ("a", True)),
        ("```python\nf(1)\n", ("f(1)", False)),
        ("```\nf(1)\n```", None),
        ("<think>```program\nx\n```</think>no", None),
        ("```program\nx\n```</think>no", None),
        ("````program\nx = '''\n```\n'''\n````", ("x = '''\n```\n'''", True)),
        ("```program\na", ("a", False)),
    ],
)
def test_blocks(text: str, found: Any) -> None:
    assert program_in(text, ["f"]) == found


def test_what_cannot_be() -> None:
    shop = Shop()
    with pytest.raises(DagexecError, match="ProgramPlanner"):
        with_programs(ProgramPlanner(shop.tools))
    with pytest.raises(DagexecError, match="no tool order"):
        with_programs(ChatPlanner(shop.tools)).equipped(Executor(shop.tools[:1]))


def test_stubs_are_shorter_than_schemas() -> None:
    planner = ChatPlanner(Shop().tools, references=False)
    from dagexec.programs import stubs

    assert len(stubs(planner.by_name.values())) < len(json.dumps(planner.tools)) / 2


async def test_functions_of_earlier_programs_stay(api: str, stream: bool) -> None:
    shop = Shop()
    script = [
        program(
            "import math",
            "limit = 2",
            "def dear(row):",
            "    return row['price'] > limit and math.floor(row['price']) > 0",
            "def titles(kind, least=0):",
            "    return [r['title'] for r in books(kind) if dear(r) and r['price'] > least]",
            "twice = lambda x: [x, x]",
            "titles('art')",
        ),
        program("titles('crime') + twice(len(titles('art')))"),
        program("limit = 0", "def dear(row):", "    return row['price'] > 10", "titles('art')"),
        program("twice = 3", "1/0"),
        program("[len(titles('art')), twice]"),
        program("def fail():", "    return 1/0", "0"),
        program("# a", "fail()"),
        "Done.",
    ]
    options, model = setting(api, script, shop)
    solution = await solve("…", stream=stream, **options)
    assert solution.status == "done"
    text = told(model)
    for each in ('[\\"art 3\\"]', '[\\"crime 3\\", 1, 1]', "value:\\n[]", "value:\\n[0, 3]"):
        assert each.replace('\\"', '"') in text.replace("\\\\", "\\").replace('\\"', '"'), each
    assert "line 2: ZeroDivisionError" in text
    assert text.count("    fail()") >= 1


async def test_programs_of_one_reply_run_in_order_and_find_each_others_variables() -> None:
    model = ScriptedModel(
        [[("run_program", {"source": "a = 5"}), ("run_program", {"source": "a + 1"})], "Done."]
    )

    @tool(effect="pure")
    def same(x: int) -> int:
        return x

    planner, executor = with_programs(ChatPlanner([same])), Executor([same])
    options: dict[str, Any] = {"client": model.openai(), "model": "m", "executor": executor}
    solution = await solve("…", planner=planner, **options)
    assert solution.reports[0]["2"].value["result"] == 6


async def test_a_program_touches_what_its_tools_may_touch() -> None:
    @tool(writes=("file:{path}", "a{{b}}", "log"), reads=("{path}",))
    def save(path: str) -> str:
        return path

    made = program_tool(Executor([save]))
    found = {(each.resource, each.write, each.exact) for each in made.resources({"source": "1"})}
    assert found == {
        ("file:", True, False),
        ("a{b}", True, True),
        ("log", True, True),
        ("", False, False),
    }
