"""Calls from the streams of the three APIs: the same ones as from the whole reply, only sooner."""

from __future__ import annotations

import json

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagexec import DagexecError, Executor, tool
from dagexec.testing import Reply, ScriptedModel, check_conversation
from dagexec.testing._wire import WIRES, Exchange
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}
APIS = list(PLANNERS)


@tool(effect="read")
async def look(what: str = "", many: list | None = None) -> str:
    """Look."""
    return what


@tool
async def change(what: str = "") -> str:
    """Change."""
    return what


@tool(effect="read")
async def run_code(code: str) -> str:
    """Run."""
    return code


TOOLS = [look, change, run_code]


def events(api, reply, size=4):
    """Return the events of a reply as dicts, without the SDK."""
    ids = tuple(f"id_{at}" for at in range(len(reply.calls)))
    exchange = Exchange(1, "m", reply, ids, size, usage=True)
    found = [event.data for event in WIRES[api].stream(exchange)]
    return [event for event in found if isinstance(event, dict)], WIRES[api].whole(exchange)


async def streamed(planner, source):
    """Return the calls of a stream, and the stream."""
    stream = planner.stream(source)
    return [call async for call in stream], stream


async def timed(*pairs):
    """Give events after waits, in seconds."""
    for seconds, event in pairs:
        await anyio.sleep(seconds)
        yield event


def conversation(planner, response, results):
    """Return the body of the next request."""
    name = "input" if isinstance(planner, ResponsesPlanner) else "messages"
    question = {"role": "user", "content": "hello"}
    return {name: [question, *planner.reply(response), *results]}


# ------------------------------------------------------------------------- the same as the whole

ARGUMENTS = st.one_of(
    st.dictionaries(
        st.text(max_size=3),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=5,
        ),
        max_size=3,
    ),
    st.builds(lambda text: {"what": text}, st.text(alphabet='{}[]"\\ ,:\n', max_size=12)),
    st.just({"what": {"$ref": "1"}}),
    st.just({"what": {"$ref": "3"}}),
)
CALLS = st.lists(st.tuples(st.sampled_from(["look", "change", "nope"]), ARGUMENTS), max_size=4)


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
@settings(
    max_examples=settings().max_examples * 6 // 10,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(calls=CALLS, text=st.sampled_from(["", "Let me see."]), size=st.integers(1, 30))
async def test_the_calls_are_those_of_the_whole_reply(api, calls, text, size):
    """However the stream is cut into pieces."""
    found, whole = events(api, Reply(text, calls), size)
    planner = PLANNERS[api](TOOLS)
    got, stream = await streamed(planner, found)
    expected = PLANNERS[api](TOOLS).plan(whole)
    assert [call.id for call in got] == [call.id for call in expected.calls]
    # What a reference further down leads to is not known yet: the run judges it at the end.
    ahead = any(int(ref.call) >= int(call.id) for call in got for ref in call.refs)
    for call, other in zip(got, expected.calls, strict=True):
        assert call == other or (ahead and other.problem is not None)
    again = planner.plan(stream.response)
    assert [call.id for call in again.calls] == [call.id for call in got]
    assert PLANNERS[api](TOOLS).plan(stream.response) == expected
    assert planner.api.text(stream.response) == text
    assert stream.whole
    body = conversation(planner, stream.response, planner.close_out())
    assert check_conversation(api, body) == []


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
async def test_a_call_comes_with_its_last_brace(api):
    """Not with the next call's first event, and not at the end."""
    found, _ = events(api, Reply("x", [("look", {"what": "}"}), ("look", {})]), 1)
    planner = PLANNERS[api](TOOLS)
    seen = []
    stream = planner.stream(found, on_event=seen.append)
    first = await anext(stream)
    assert first.args == {"what": "}"}
    text = json.dumps(seen)
    assert '"}"' in text
    assert "id_1" not in text
    rest = [call.id async for call in stream]
    assert rest == ["2"]


@pytest.mark.anyio
async def test_sdk_streams_and_their_wrappers():
    """What `create(stream=True)` gives, and what `stream(...)` gives."""
    calls = [("look", {"what": "a"}), ("change", {"what": {"$ref": "1"}}), ("look", {})]
    script = ["Hm.", *calls]
    model = ScriptedModel([script] * 6)
    openai, anthropic = model.openai(), model.anthropic()
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    spoken = {"model": "m", "input": "x"}
    streams = [
        (ChatPlanner, openai.chat.completions.stream(**asked)),
        (ResponsesPlanner, openai.responses.stream(**spoken)),
        (MessagesPlanner, anthropic.messages.stream(**asked, max_tokens=9)),
    ]
    found = []
    for planner, manager in streams:
        async with manager as source:
            found.append((await streamed(planner(TOOLS), source))[0])
    for planner, create in [
        (ChatPlanner, openai.chat.completions.create(**asked, stream=True)),
        (ResponsesPlanner, openai.responses.create(**spoken, stream=True)),
        (MessagesPlanner, anthropic.messages.create(**asked, max_tokens=9, stream=True)),
    ]:
        found.append((await streamed(planner(TOOLS), await create))[0])
    assert all(calls == found[0] for calls in found)
    assert [call.tool for call in found[0]] == ["look", "change", "look"]


# -------------------------------------------------------------------------------------- in time


class Clocked:
    """Tools that take 0.9 s, and when each was started."""

    def __init__(self):
        self.zero = anyio.current_time()
        self.began = {}
        self.running = 0

        async def run(what):
            self.began[what] = round(anyio.current_time() - self.zero, 6)
            self.running += 1
            try:
                await anyio.sleep(0.9)
            finally:
                self.running -= 1
            return what

        @tool(effect="pure")
        async def think(what: str) -> str:
            """Think."""
            return await run(what)

        @tool(effect="read")
        async def look(what: str) -> str:
            """Look."""
            return await run(what)

        @tool(effect="idempotent")
        async def put(what: str) -> str:
            """Put."""
            return await run(what)

        @tool(effect="write")
        async def change(what: str) -> str:
            """Change."""
            return await run(what)

        self.tools = [think, look, put, change]

    @property
    def now(self):
        return round(anyio.current_time() - self.zero, 6)


def spread(found, first=0.1, last=1.0):
    """Give events so that the first call is complete at `first` and the stream ends at `last`."""
    at = next(i for i, event in enumerate(found) if "id_1" in json.dumps(event))
    tail = found[at:]
    waits = [first, *[0.0] * (at - 1), *[(last - first) / len(tail)] * len(tail)]
    return timed(*zip(waits, found, strict=True))


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
async def test_reads_start_while_the_model_writes_and_writes_at_the_end(api):
    """The first call is complete at 100 ms, the stream ends at 1 s."""
    calls = [("look", {"what": "a"}), ("change", {"what": "b"}), ("put", {"what": "c"})]
    calls += [("think", {"what": "d"}), ("look", {"what": {"$ref": "1"}})]
    found, _ = events(api, Reply("", calls))
    clock = Clocked()
    report = await Executor(clock.tools).run(PLANNERS[api](clock.tools).stream(spread(found)))
    assert report.ok
    assert report["1"].started == pytest.approx(0.1)
    assert clock.began["b"] == clock.began["c"] == pytest.approx(1.0)
    assert 0.1 < clock.began["d"] < 1.0
    assert report["5"].started == pytest.approx(1.0)  # as soon as the first has ended
    assert clock.now == pytest.approx(1.9)


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
async def test_the_total_is_the_longer_of_the_two_not_their_sum(api):
    """With reads only, a stream of 1 s and a call of 0.9 s from 0.1 s on take 1 s together."""
    found, _ = events(api, Reply("", [("look", {"what": "a"}), ("nope", {"what": "c" * 40})]))
    clock = Clocked()
    await Executor(clock.tools).run(PLANNERS[api](clock.tools).stream(spread(found)))
    assert clock.now == pytest.approx(1.0)


# ------------------------------------------------------------------------- streams that break off


THREE = Reply("Hm.", [("look", {"what": "a"}), ("change", {"what": "b"}), ("look", {"what": "c"})])


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("raises", [True, False])
async def test_a_stream_that_breaks_off_anywhere(api, raises):
    """What is finished is kept, nothing more is started, and the error says so."""
    found, _ = events(api, THREE, 8)
    whole = sum("finish_reason" not in str(e) for e in found)
    for cut in range(len(found)):
        if _has_ended(found[:cut]):
            break
        await _broken(api, found[:cut], raises=raises)
    assert cut > whole // 2


def _has_ended(found):
    last = found[-1] if found else {}
    reason = (last.get("choices") or [{}])[0].get("finish_reason")
    return reason or last.get("type") in ("response.completed", "message_delta")


async def _broken(api, found, *, raises):
    clock = Clocked()
    planner = PLANNERS[api](clock.tools)

    async def source():
        for event in found:
            yield event
        await anyio.sleep(5)
        if raises:
            raise ConnectionError("gone")

    stream = planner.stream(source())
    with pytest.raises(DagexecError, match="broke") as caught:
        await Executor(clock.tools).run(stream)
    assert isinstance(caught.value.__cause__, ConnectionError) is raises
    report = caught.value.report
    assert not stream.whole
    assert clock.running == 0
    assert "b" not in clock.began
    assert all(report[id_].status == "done" for id_ in report if report[id_].started is not None)
    results = planner.results(report)
    if stream.response is not None:
        assert check_conversation(api, conversation(planner, stream.response, results)) == []
        assert len(planner.calls.last()) == len(report)
    else:
        assert results == []
    # The conversation goes on, with the numbers that come next.
    more, _ = events(api, Reply("", [("look", {"what": "z"})]))
    calls, _ = await streamed(planner, more)
    assert int(calls[0].id) == len(planner.calls.records)


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("half", [True, False])
async def test_a_reply_that_the_provider_cuts_off(api, half):
    """The run returns; what had been done is kept, and every call of it is answered."""
    last = '{"what": "c' if half else {"what": "c"}
    calls = [*THREE.calls[:2], ("look", last)]
    found, _ = events(api, Reply("Hm.", calls[:-1] if half and api == "messages" else calls, True))
    if half and api == "messages":
        use = {"type": "tool_use", "id": "id_2", "name": "look", "input": {}}
        found[-2:-2] = [
            {"type": "content_block_start", "index": 9, "content_block": use},
            {
                "type": "content_block_delta",
                "index": 9,
                "delta": {"type": "input_json_delta", "partial_json": last},
            },
            {"type": "content_block_stop", "index": 9},
        ]
    clock = Clocked()
    planner = PLANNERS[api](clock.tools)
    stream = planner.stream(timed(*[(0.2, event) for event in found]))
    report = await Executor(clock.tools).run(stream)
    assert stream.whole
    assert "cut off" in stream.broken
    assert report["1"].status == "done"
    assert report["2"].status == "cancelled"
    assert "b" not in clock.began
    assert report["3"].status == ("failed" if half else "cancelled")
    results = planner.results(report)
    assert check_conversation(api, conversation(planner, stream.response, results)) == []
    text = json.dumps(results)
    assert text.count("cut off") == 2
    assert "fewer or shorter" in text
    assert PLANNERS[api](TOOLS).plan(stream.response)["1"].problem is not None


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
async def test_closing_a_stream_early_keeps_what_is_complete(api):
    """Also before it was begun, and twice."""
    found, _ = events(api, THREE, 8)
    planner = PLANNERS[api](TOOLS)
    stream = planner.stream(found)
    await stream.aclose()
    assert stream.response is None
    assert planner.close_out() == []
    stream = planner.stream(iter(found))
    assert (await anext(stream)).id == "1"
    await stream.aclose()
    await stream.aclose()
    assert [call async for call in stream] == []
    body = conversation(planner, stream.response, planner.close_out())
    assert check_conversation(api, body) == []


@pytest.mark.anyio
async def test_errors_in_the_stream():
    """Whatever the API calls them, they break the stream and say what it said."""
    overloaded = {"type": "overloaded_error", "message": "Overloaded"}
    cases = [
        ("chat", [{"error": {"message": "Overloaded", "code": 503}}]),
        ("responses", [{"type": "error", "code": "server_error", "message": "Overloaded"}]),
        ("responses", [{"type": "response.failed", "response": {"error": overloaded}}]),
        ("messages", [{"type": "error", "error": overloaded}]),
    ]
    for api, found in cases:
        stream = PLANNERS[api](TOOLS).stream([*events(api, THREE)[0][:-3], *found])
        with pytest.raises(DagexecError, match="Overloaded"):
            [call async for call in stream]
        assert not stream.whole


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
async def test_what_is_no_stream_of_this_api(api):
    """It is refused in words that help."""
    planner = PLANNERS[api](TOOLS)
    found, whole = events(api, THREE)
    for wrong in (whole, planner.response(whole)):
        with pytest.raises(DagexecError, match=r"give a whole reply to plan\(\)"):
            planner.stream(wrong)
    with pytest.raises(DagexecError, match="cannot read"):
        planner.stream(5)
    with pytest.raises(DagexecError, match="take"):
        planner.stream(anyio.create_task_group())
    other = PLANNERS[APIS[APIS.index(api) - 1]](TOOLS)
    with pytest.raises(DagexecError, match="cannot read"):
        await streamed(other, found)
    with pytest.raises(DagexecError, match="ended before the reply did"):
        await streamed(planner, [])
    with pytest.raises(DagexecError, match="source of the plan broke"):
        await Executor(TOOLS).run(other.stream(found))


# ------------------------------------------------------------------------- what providers can send


def chunk(*fragments, finish=None, **delta):
    """Return a chunk of Chat Completions."""
    if fragments:
        delta["tool_calls"] = list(fragments)
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def part(index, arguments="", id=None, name=None):
    """Return a fragment of a call."""
    head = {} if id is None else {"id": id, "type": "function"}
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return {"index": index, **head, "function": function}


DONE = chunk(finish="tool_calls")
CHAT = {
    "interleaved": [
        chunk(part(0, "", "a", "look"), part(1, "", "b", "look")),
        chunk(part(0, '{"what"')),
        chunk(part(1, '{"what": "y"}')),
        chunk(part(0, ': "x"}')),
        DONE,
    ],
    "one index for all": [
        chunk(part(0, '{"what": "x"}', "a", "look")),
        chunk(part(0, '{"what"', "b", "look")),
        chunk(part(0, ': "y"}')),
        DONE,
    ],
    "no index at all": [
        chunk({"id": "a", "function": {"name": "look", "arguments": '{"what": "x"}'}}),
        chunk({"id": "b", "function": {"name": "look", "arguments": '{"what": "y"}'}}),
        DONE,
    ],
    "id and name with every fragment": [
        chunk(part(0, '{"what"', "a", "look")),
        chunk(part(0, ': "x"}', "a", "look")),
        chunk(part(1, '{"what": "y"}', "b", "look")),
        DONE,
    ],
    "an object for arguments": [
        chunk(part(0, {"what": "x"}, "a", "look")),
        chunk(part(1, {"what": "y"}, "b", "look")),
        DONE,
    ],
    "Azure's first chunk, other choices and usage": [
        {"choices": [], "prompt_filter_results": []},
        {"choices": [{"index": 1, "delta": {"tool_calls": [part(0, "{}", "z", "change")]}}]},
        chunk(role="assistant", content=""),
        chunk(part(0, '{"what": "x"}', "a", "look")),
        chunk(part(1, '{"what": "y"}', "b", "look")),
        chunk(finish="stop"),
        {"choices": [], "usage": {"prompt_tokens": 1}},
    ],
    "no word on the last": [
        chunk(part(0, '{"what": "x"}', "a", "look"), part(1, '{"what": "y"}', "b", "look")),
        DONE,
    ],
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", CHAT)
async def test_chat_as_servers_send_it(case):
    """Two calls, each once, in the order in which the model began them."""
    planner = ChatPlanner(TOOLS)
    calls, stream = await streamed(planner, CHAT[case])
    found = sorted((call.id, call.tool, call.args["what"]) for call in calls)
    assert found == [("1", "look", "x"), ("2", "look", "y")]
    (message,) = planner.reply(stream.response)
    assert [call["id"] for call in message["tool_calls"]] == ["a", "b"]
    assert ChatPlanner(TOOLS).plan(stream.response).calls == tuple(
        sorted(calls, key=lambda c: c.id)
    )


@pytest.mark.anyio
async def test_chat_calls_whose_end_cannot_be_seen():
    """None, empty, broken, twice the same id, custom, deprecated: they wait for the end."""
    planner = ChatPlanner(TOOLS)
    found = [
        chunk(part(0, "", "a", "look")),
        chunk(part(1, "null", "b", "look")),
        chunk(part(2, "[1]", "c", "look")),
        chunk(part(3, '{"what": "x"', "d", "look")),
        chunk(
            {"index": 4, "id": "e", "type": "custom", "custom": {"name": "run_code", "input": ""}}
        ),
        chunk({"index": 4, "custom": {"input": "{}"}}),
        chunk(part(5, "{}", "a", "look")),
        chunk(part(6, "{}", "f", "nope")),
        chunk(reasoning_content="be"),
        chunk(reasoning_content="cause"),
        DONE,
    ]
    calls, stream = await streamed(planner, found)
    problems = {call.id: call.problem for call in calls}
    assert [id_ for id_ in sorted(problems) if problems[id_]] == ["3", "4", "6", "7"]
    assert "already that of call 1" in problems["6"]
    by_id = {call.id: call for call in calls}
    assert by_id["1"].args == by_id["2"].args == {}
    assert "an array" in problems["3"]
    assert "not valid JSON" in problems["4"]
    assert by_id["5"].args == {"code": "{}"}
    assert "no tool 'nope'" in problems["7"]
    (message,) = planner.reply(stream.response)
    assert message["reasoning_content"] == "because"
    assert message["tool_calls"][4]["custom"] == {"name": "run_code", "input": "{}"}
    legacy = [
        chunk(function_call={"name": "look", "arguments": '{"what"'}),
        chunk(function_call={"arguments": ': "x"}'}),
        chunk(finish="function_call"),
    ]
    (call,), _ = await streamed(ChatPlanner(TOOLS), legacy)
    assert call.args == {"what": "x"}


def added(index, **item):
    """Return a Responses event that begins an item."""
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def finished(index, **item):
    """Return a Responses event that ends an item."""
    return {"type": "response.output_item.done", "output_index": index, "item": item}


@pytest.mark.anyio
async def test_responses_as_the_api_sends_them():
    """Interleaved items, server-side tools, custom calls, a status of their own, no `added`."""
    planner = ResponsesPlanner(TOOLS)
    call = {"type": "function_call", "name": "look", "call_id": "a", "id": "fc_a"}
    other = {**call, "call_id": "b", "id": "fc_b", "caller": {"type": "direct"}}
    custom = {"type": "custom_tool_call", "name": "run_code", "call_id": "c", "id": "ctc"}
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    mcp = {"type": "mcp_call", "id": "m", "name": "look", "arguments": "{}", "server_label": "s"}
    delta = "response.function_call_arguments.delta"
    found = [
        {"type": "keepalive"},
        {"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
        finished(0, type="reasoning", id="rs", summary=[], encrypted_content="x"),
        finished(1, **search),
        added(2, **call, arguments="", status="in_progress"),
        added(3, **other, arguments="", status="in_progress"),
        {"type": "response.mcp_call_arguments.delta", "output_index": 4, "delta": "{}"},
        finished(4, **mcp),
        {"type": delta, "output_index": 3, "item_id": "fc_b", "delta": '{"what": "y"}'},
        {"type": delta, "output_index": 2, "item_id": "fc_a", "delta": '{"what": "x"'},
        {"type": delta, "output_index": 2, "item_id": "fc_a", "delta": "}"},
        {
            "type": "response.function_call_arguments.done",
            "output_index": 2,
            "arguments": '{"what": "x"}',
        },
        finished(2, **call, arguments='{"what": "x"}', status="completed"),
        finished(3, **other, arguments='{"what": "y"}', status="completed"),
        added(5, **custom, input=""),
        {"type": "response.custom_tool_call_input.delta", "output_index": 5, "delta": "{}"},
        {"type": "response.custom_tool_call_input.done", "output_index": 5, "input": "{}"},
        finished(5, **custom, input="{}"),
        finished(6, **{**call, "call_id": "d", "id": "fc_d"}, arguments=""),
        finished(7, **{**call, "call_id": "e"}, arguments='{"wh', status="incomplete"),
        finished(8, **{**call, "call_id": "a"}, arguments="{}"),
        {"type": "response.completed", "response": {"id": "r", "status": "completed"}},
    ]
    calls, stream = await streamed(planner, found)
    by_id = {each.id: each for each in calls}
    assert [each.id for each in calls] == ["2", "1", "3", "4", "5", "6"]
    assert by_id["1"].args == {"what": "x"}
    assert by_id["2"].args == {"what": "y"}
    assert by_id["3"].args == {"code": "{}"}
    assert by_id["4"].args == {}
    assert "status incomplete" in by_id["5"].problem
    assert "already that of call 1" in by_id["6"].problem
    assert stream.broken is None
    kinds = [item["type"] for item in planner.reply(stream.response)]
    items = [event for event in found if event["type"].endswith("item.done")]
    items.sort(key=lambda event: event["output_index"])
    # The last has the id of another, and an API takes an id once.
    assert kinds == [event["item"]["type"] for event in items[:-1]]
    assert planner.close_out()[1]["caller"] == {"type": "direct"}
    only = [
        {
            "type": "response.completed",
            "response": {"status": "completed", "output": [{**call, "arguments": "{}"}]},
        }
    ]
    assert [each.tool for each in (await streamed(ResponsesPlanner(TOOLS), only))[0]] == ["look"]


def block(index, kind, *deltas, **body):
    """Return the Messages events of a block."""
    start = {"type": "content_block_start", "index": index, "content_block": {"type": kind, **body}}
    found = [{"type": "content_block_delta", "index": index, "delta": each} for each in deltas]
    return [start, *found, {"type": "content_block_stop", "index": index}]


def json_delta(text):
    """Return a piece of an input."""
    return {"type": "input_json_delta", "partial_json": text}


def message_end(reason):
    """Return the two last events."""
    usage = {"output_tokens": 7}
    end = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}
    return [end, {"type": "message_stop"}]


BEGIN = {
    "type": "message_start",
    "message": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "content": [],
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
}


@pytest.mark.anyio
async def test_messages_as_the_api_sends_them():
    """Thoughts, citations, server tools, empty and broken inputs, a block that never stops."""
    planner = MessagesPlanner(TOOLS)
    found = [
        BEGIN,
        {"type": "ping"},
        *block(0, "thinking", {"type": "thinking_delta", "thinking": "be"},
               {"type": "thinking_delta", "thinking": "cause"},
               {"type": "signature_delta", "signature": "sig"}, thinking="", signature=""),
        *block(1, "text", {"type": "text_delta", "text": "So."},
               {"type": "citations_delta", "citation": {"cited_text": "c"}}, text=""),
        *block(2, "server_tool_use", json_delta('{"query":'), json_delta('"q"}'),
               id="srv", name="web_search", input={}),
        *block(3, "web_search_tool_result", tool_use_id="srv", content=[]),
        *block(4, "tool_use", json_delta(""), id="a", name="look", input={}, toolset_name="t"),
        *block(5, "tool_use", json_delta('{"what"'), id="b", name="look", input={}),
        *block(6, "tool_use", id="c", name="look", input={"what": "z"}),
        *block(7, "tool_use", json_delta('{"what": "y"}'), id="d", name="look", input={})[:-1],
        *block(8, "tool_use", json_delta('{"wh'), id="e", name="look", input={})[:-1],
        *message_end("tool_use"),
    ]  # fmt: skip
    calls, stream = await streamed(planner, found)
    by_id = {call.id: call for call in calls}
    assert [call.id for call in calls] == ["1", "2", "3", "4", "5"]
    assert [by_id[id_].args for id_ in "134"] == [{}, {"what": "z"}, {"what": "y"}]
    assert "not valid JSON" in by_id["2"].problem
    assert "not valid JSON" in by_id["5"].problem
    (message,) = planner.reply(stream.response)
    blocks = message["content"]
    assert blocks[0] == {"type": "thinking", "thinking": "because", "signature": "sig"}
    assert blocks[1] == {"type": "text", "text": "So.", "citations": [{"cited_text": "c"}]}
    assert blocks[2]["input"] == {"query": "q"}
    assert blocks[5]["input"] == {"INVALID_JSON": '{"what"'}
    assert stream.response["usage"] == {"input_tokens": 3, "output_tokens": 7}
    results = planner.close_out()
    assert results[0]["content"][0]["toolset_name"] == "t"
    assert check_conversation("messages", conversation(planner, stream.response, results)) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reason", "broken"),
    [
        ("pause_turn", "goes on"),
        ("max_tokens", "cut off"),
        ("refusal", "refusal"),
        ("something_new", "cut off"),
    ],
)
async def test_messages_that_do_not_stop_for_their_calls(reason, broken):
    """Nothing more starts; a turn that goes on has no calls to answer."""
    clock = Clocked()
    planner = MessagesPlanner(clock.tools)
    found = [
        BEGIN,
        *block(0, "tool_use", json_delta('{"what": "a"}'), id="a", name="look", input={}),
        *block(1, "tool_use", json_delta('{"what": "b"}'), id="b", name="change", input={}),
        *block(2, "tool_use", json_delta(""), id="c", name="change", input={}),
        *message_end(reason),
    ]
    stream = planner.stream(found)
    report = await Executor(clock.tools).run(stream)
    assert broken in stream.broken
    assert report["2"].status == "cancelled"
    assert "b" not in clock.began
    results = planner.results(report)
    if reason == "pause_turn":
        assert results == []
    else:
        assert len(results[0]["content"]) == 3
        assert check_conversation("messages", conversation(planner, stream.response, results)) == []


@pytest.mark.anyio
async def test_a_reference_to_what_comes_further_down_waits_for_it():
    """In a stream as in a whole reply; what never comes is told to the model."""
    fragments = [
        chunk(part(0, '{"what": {"$ref": "02"}}', "a", "look")),
        chunk(part(1, '{"what": "y"}', "b", "look")),
        chunk(part(2, '{"what": {"$ref": "9"}}', "c", "look")),
        DONE,
    ]
    planner = ChatPlanner(TOOLS)
    report = await Executor(TOOLS).run(planner.stream(timed(*((1, each) for each in fragments))))
    assert report["1"].value == "y"
    assert report["3"].status == "failed"
    text = planner.results(report)[2]["content"]
    assert "9" in text


@pytest.mark.anyio
async def test_a_block_without_arguments_is_complete_when_it_stops():
    """Unless its tool needs some: then the reply may have been cut off there."""
    found = [
        BEGIN,
        *block(0, "tool_use", json_delta(""), id="a", name="look", input={}),
        *block(1, "tool_use", id="b", name="run_code", input={}),
    ]
    planner = MessagesPlanner(TOOLS)
    stream = planner.stream([*found, *message_end("max_tokens")])
    first = await anext(stream)
    assert (first.id, first.args, stream.whole) == ("1", {}, False)
    (second,) = [call async for call in stream]
    assert "cut off" in second.problem
    assert "cut off" in stream.broken
    planner = MessagesPlanner(TOOLS)
    stream = planner.stream(iter(found))
    await anext(stream)
    await stream.aclose()
    body = conversation(planner, stream.response, planner.close_out())
    assert check_conversation("messages", body) == []
    assert len(body["messages"]) == 3
    calls, stream = await streamed(MessagesPlanner(TOOLS), [*found, *message_end("tool_use")])
    assert "code: missing" in calls[1].problem
    assert stream.broken is None
