"""A program that is still being written: reads start early, the result is that of the whole."""

from __future__ import annotations

import itertools
import json
import os
import random
from typing import Any

import anyio
import pytest

from dagexec import Executor, Timeouts, tool
from dagexec.programs._written import WrittenStatements
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner
from planners.programs import ProgramPlanner, with_programs
from planners.programs._ahead import BlockSource, JsonSource
from tests.programs.generated import World, Writer

pytestmark = pytest.mark.anyio
MANY = int(os.environ.get("DAGEXEC_FUZZ", "20"))

TEXT = '''import json
x = """
a = 1
else
"""
if x:
    y = 1
# a comment

else:
    y = [
1, 2
]
z = (1 +
 2)
w = 1 + \\
 2
try:
    pass
finally:
    pass
elsewhere = 3
'''


async def test_statements_are_complete_when_the_next_one_begins() -> None:
    whole = []
    written = WrittenStatements()
    for char in TEXT:
        if found := written.feed(char):
            whole.append(found)
    assert "".join(whole) == TEXT[: TEXT.index("elsewhere")]
    assert [each.split("\n")[0] for each in whole] == [
        "import json",
        'x = """',
        "if x:",
        "z = (1 +",
        "w = 1 + \\",
        "try:",
    ]


async def test_a_text_in_pieces_is_cut_where_the_whole_is() -> None:
    for at in range(len(TEXT)):
        written = WrittenStatements()
        assert written.feed(TEXT[:at]) + written.feed(TEXT[at:]) == TEXT[: TEXT.index("elsewhere")]


async def test_the_source_of_a_call_is_read_from_half_written_arguments() -> None:
    source = 'print("a\\n", "ü", "\U0001f600")\n\t\\x\u2028'
    for ascii_ in (True, False):
        text = json.dumps({"repeat": ["a"], "source": source}, ensure_ascii=ascii_)
        reader = JsonSource()
        assert "".join(reader.more(text[:at]) for at in range(len(text) + 1)) == source


async def test_a_block_is_read_from_a_half_written_text() -> None:
    text = "<think>\n```program\nno()\n```\n</think>Well:\n```program\na = 1\nb = 2\n```\nc\n"
    reader = BlockSource()
    assert "".join(reader.more(text[:at]) for at in range(len(text) + 1)) == "a = 1\nb = 2\n"


def message(text: str, cuts: list[int], *, end: bool = True) -> list[dict[str, Any]]:
    """Return the events of a Messages reply whose call has these arguments, cut into pieces."""
    block = {"type": "tool_use", "id": "toolu_1", "name": "run_program", "input": {}}
    edges = [0, *cuts, len(text)]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": block},
    ]
    events += [
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": text[one:other]},
        }
        for one, other in itertools.pairwise(edges)
    ]
    if not end:
        return events
    return [
        *events,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
        {"type": "message_stop"},
    ]


async def paced(events: list[Any], pause: float) -> Any:
    for event in events:
        yield event
        await anyio.sleep(pause)


def program(source: str, parts: int, *, end: bool = True) -> list[dict[str, Any]]:
    text = json.dumps({"source": source})
    return message(text, [len(text) * n // parts for n in range(1, parts)], end=end)


class Shop:
    """Tools that take a second, and what they were called with and when."""

    def __init__(self) -> None:
        self.said: list[tuple[str, float]] = []
        self.ended: list[str] = []
        self.began = anyio.current_time()

        @tool(effect="read")
        async def look(name: str) -> str:
            self.note(f"look {name}")
            try:
                await anyio.sleep(1)
            except BaseException:
                self.ended.append(name)
                raise
            if name == "bad":
                raise ValueError(name)
            return name

        @tool
        async def order(name: str) -> str:
            self.note(f"order {name}")
            await anyio.sleep(1)
            return name

        self.tools: list[Any] = [look, order]

    def note(self, text: str) -> None:
        self.said.append((text, round(anyio.current_time() - self.began, 2)))


async def answer_of(shop: Shop, events: list[Any], pause: float, **options: Any) -> Any:
    """Run a streamed program; return the report of the turn."""
    planner = with_programs(MessagesPlanner(shop.tools))
    executor = planner.equipped(Executor(shop.tools, **options))
    return await executor.run(planner.stream(paced(events, pause)))


LINES = "a = look('a')\nb = look(a + 'b')\norder(b)\nc = look('c')\n" + "# …\n" * 20 + "[a, b, c]\n"


@pytest.mark.parametrize("concurrency", [1, 2, 20])
async def test_reads_start_while_the_model_writes_and_writes_behind_it(concurrency: int) -> None:
    shop = Shop()
    report = await answer_of(shop, program(LINES, 40), 0.1, concurrency=concurrency)
    assert report["1"].value["result"] == ["a", "ab", "c"]
    starts = dict(shop.said)
    assert len(starts) == len(shop.said) == 4  # each once
    assert starts["look a"] < 1.5
    assert 1 < starts["look ab"] < 3.5  # a write before it in the text would hold it; this is none
    assert starts["order ab"] >= 4  # the text is there
    assert starts["look c"] > starts["order ab"]  # it comes behind the write


async def test_a_reply_that_is_cut_off_has_ordered_nothing_and_ends_its_reads() -> None:
    shop = Shop()
    planner = with_programs(MessagesPlanner(shop.tools))
    executor = planner.equipped(Executor(shop.tools))
    events = program("order('x')\nn = order('y')\na = 1\n" * 3, 10, end=False)
    with pytest.raises(Exception, match="ended before the reply did"):
        await executor.run(planner.stream(paced(events, 0.1)))
    assert shop.said == []
    events = program("a = look('a')\nb = 1\nb = look('never')\n" + "b = 1\n" * 9, 6, end=False)
    planner = with_programs(MessagesPlanner(shop.tools))
    executor = planner.equipped(Executor(shop.tools))
    with pytest.raises(Exception, match="ended before the reply did"):
        await executor.run(planner.stream(paced(events, 0.05)))
    assert sorted(shop.ended) == sorted(name.split()[1] for name, _ in shop.said) != []


async def test_a_program_that_is_refused_ends_what_it_has_started() -> None:
    shop = Shop()
    source = "a = look('a')\norder(a)\nb = 2\nimport os\nc = 3\n" + "c = 4\n" * 9
    report = await answer_of(shop, program(source, 20), 0.05)
    assert "there is no module os" in str(report["1"].error)
    assert [name for name, _ in shop.said] == ["look a"]
    assert shop.ended == ["a"]


async def test_a_read_that_failed_has_failed_in_the_program() -> None:
    shop = Shop()
    source = (
        "try:\n    look('bad')\nexcept ToolError as e:\n    print(e.tool)\n"
        "c = look('c')\n" + "d = 1\n" * 20 + "raise ValueError('x')\n"
    )
    report = await answer_of(shop, program(source, 20), 0.02)
    value = report["1"].value
    assert value["printed"] == "look\n"
    assert "ValueError: x" in value["error"]
    assert sorted(name for name, _ in shop.said) == ["look bad", "look c"]


async def test_an_early_read_is_a_call_of_the_programs_report() -> None:
    shop = Shop()
    source = "a = look('a')\n" + "# …\n" * 9 + "a = 1\na[5]\n"
    report = await answer_of(shop, program(source, 9), 0.3)
    (call,) = report["1"].value["calls"]
    assert (call["tool"], call["args"], call["value"]) == ("look", {"name": "a"}, "a")
    assert report["1"].ended - report["1"].started < 0.1  # it was there
    assert len(shop.said) == 1


async def test_a_hung_read_holds_nothing_that_does_not_need_it() -> None:
    shop = Shop()
    never: list[float] = []

    @tool(effect="read")
    async def hang() -> None:
        never.append(1)
        await anyio.sleep_forever()

    shop.tools.append(hang)
    source = "x = look('a')\nprint(x)\nh = hang()\n" + "# …\n" * 9 + "h\n"
    report = await answer_of(shop, program(source, 9), 0.3, timeouts=Timeouts(call=50))
    assert report["1"].value["printed"] == "a\n"
    assert "TimedOut" in report["1"].value["error"] or "timed out" in report["1"].value["error"]
    assert len(never) == 1


@pytest.mark.parametrize("planner_type", [ChatPlanner, ResponsesPlanner, MessagesPlanner])
async def test_each_api_streams_programs(planner_type: Any) -> None:
    from dagexec.testing import ScriptedModel
    from planners import solve

    shop = Shop()
    model = ScriptedModel([[("run_program", {"source": LINES})], "Done."])
    client = model.anthropic() if planner_type is MessagesPlanner else model.openai()
    planner = with_programs(planner_type(shop.tools))
    executor = Executor(shop.tools)
    options: dict[str, Any] = {"client": client, "model": "m", "executor": executor}
    solution = await solve("…", planner=planner, stream=True, **options)
    assert solution.status == "done"
    assert sorted(name for name, _ in shop.said) == ["look a", "look ab", "look c", "order ab"]


async def test_a_program_in_a_text_starts_its_reads_too() -> None:
    shop = Shop()
    planner = ProgramPlanner(shop.tools)
    executor = planner.equipped(Executor(shop.tools))
    text = f"I look.\n```program\n{LINES}```\n"
    pieces = [text[at : at + 9] for at in range(0, len(text), 9)]
    chunks: list[dict[str, Any]] = [
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": each}}]}
        for each in pieces
    ]
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks.append({"object": "chat.completion.chunk", "choices": [last]})
    report = await executor.run(planner.stream(paced(chunks, 0.1)))
    assert report["1"].value["result"] == ["a", "ab", "c"]
    assert len(shop.said) == 4
    assert dict(shop.said)["look a"] < 1.5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("before", ["put", "run_program"])
@pytest.mark.parametrize("planner_type", [ChatPlanner, ResponsesPlanner, MessagesPlanner])
async def test_a_program_reads_what_the_calls_before_it_in_the_reply_wrote(
    planner_type: Any, before: str, *, stream: bool
) -> None:
    from dagexec.testing import ScriptedModel
    from planners import solve

    kept = {"x": "old"}

    @tool(writes=("shelf:{name}",))
    async def put(name: str, value: str) -> str:
        await anyio.sleep(1)
        kept[name] = value
        return value

    @tool(effect="read", reads=("shelf:{name}",))
    async def get(name: str) -> str:
        return kept[name]

    first = {"name": "x", "value": "new"}
    if before == "run_program":
        first = {"source": "y = put('x', 'new')"}
    second = {"source": "x = get('x')\n" + "# …\n" * 200 + "x\n"}
    model = ScriptedModel([[(before, first), ("run_program", second)], "Done."])
    client = model.anthropic() if planner_type is MessagesPlanner else model.openai()
    planner = with_programs(planner_type([put, get]))
    executor = Executor([put, get])
    options: dict[str, Any] = {"client": client, "model": "m", "executor": executor}
    solution = await solve("…", planner=planner, stream=stream, **options)
    assert solution.reports[0]["2"].value["result"] == "new"


def tools_of(world: World, chance: random.Random) -> list[Any]:
    async def some() -> None:
        await anyio.sleep(chance.choice([0, 0.01, 0.05, 0.2]))

    @tool(effect="read")
    async def read(x: Any) -> Any:
        await some()
        return world.read(x)

    @tool(effect="pure")
    async def pure(x: Any) -> Any:
        await some()
        return world.pure(x)

    @tool
    async def write(x: Any, y: Any) -> Any:
        await some()
        return world.write(x, y)

    return [read, pure, write]


async def account_of(seed: int, source: str, *, streamed: bool) -> tuple[Any, ...]:
    """Return what a program does, streamed in pieces or at once."""
    chance = random.Random(seed)
    world = World()
    begun: list[Any] = []
    tools = tools_of(world, chance)
    planner = with_programs(MessagesPlanner(tools))
    executor = planner.equipped(Executor(tools, observers=[begun.append]))
    text = json.dumps({"source": source})
    cuts = sorted(chance.sample(range(1, len(text)), min(12, len(text) - 1))) if streamed else []
    report = await executor.run(planner.stream(paced(message(text, cuts), 0.03)))
    value = report["1"].value
    told = (value["result"], value["printed"], value.get("error"), value["variables"])
    return repr(told), world.writes, world.cells, _early(begun)


def _early(begun: list[Any]) -> int:
    """Return how many calls had ended when the program's own run began."""
    place = next(n for n, each in enumerate(begun) if type(each).__name__ == "Closed")
    return sum(type(each).__name__ == "Settled" for each in begun[:place])


async def streamed_is_whole(seed: int) -> int:
    """Compare a generated program, streamed in pieces, with the whole; return its early reads."""
    source = Writer(random.Random(seed)).program()
    *whole, _ = await account_of(seed, source, streamed=False)
    *pieces, early = await account_of(seed, source, streamed=True)
    assert pieces == whole, f"{seed}:\n{source}"
    assert isinstance(early, int)
    return early


async def test_generated_programs_that_are_streamed_do_what_python_does() -> None:
    early = 0
    for seed in range(4):
        early += await streamed_is_whole(seed)
    assert early > 3


@pytest.mark.slow
@pytest.mark.timeout(120 + 3 * MANY)  # coverage and a busy machine make it slower
async def test_many_of_them() -> None:
    for seed in range(1_000, 1_000 + MANY):
        await streamed_is_whole(seed)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_program_cut_anywhere_is_the_whole_program() -> None:
    text = json.dumps({"source": LINES})
    for cut in range(1, len(text), 3):
        shop = Shop()
        report = await answer_of(shop, message(text, [cut]), 0.4)
        assert report["1"].value["result"] == ["a", "ab", "c"]
        assert sorted(name for name, _ in shop.said) == ["look a", "look ab", "look c", "order ab"]
