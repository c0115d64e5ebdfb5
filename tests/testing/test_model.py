from __future__ import annotations

import json
import subprocess
import sys

import anyio
import pytest

from dagexec.testing import Reply, ScriptedModel

pytestmark = pytest.mark.anyio

CALLS = [("search", {"q": 'Größe "x"'}), ("read", {"n": 1, "deep": {"a": [1, 2]}})]
USER = {"role": "user", "content": "hello"}


async def ask_chat(client, messages=None, **options):
    """Return text and calls of an answer, and the finish reason."""
    messages = messages or [USER]
    if not options.get("stream"):
        choice = (
            await client.chat.completions.create(model="m", messages=messages, **options)
        ).choices[0]
        calls = [
            (c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls or []
        ]
        return choice.message.content or "", calls, choice.finish_reason
    text, calls, finish = "", {}, None
    async for chunk in await client.chat.completions.create(
        model="m", messages=messages, **options
    ):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or []:
                call = calls.setdefault(part.index, [part.id, part.function.name, ""])
                call[2] += part.function.arguments or ""
    return text, [tuple(call) for call in calls.values()], finish


async def ask_responses(client, messages=None, **options):
    """Return text and calls of an answer, and its status."""
    made = await client.responses.create(model="m", input=messages or [USER], **options)
    deltas = ""
    if options.get("stream"):
        async for event in made:
            if event.type.endswith(".delta"):
                deltas += event.delta
            if event.type in {"response.completed", "response.incomplete"}:
                made = event.response
    calls = [(i.call_id, i.name, i.arguments) for i in made.output if i.type == "function_call"]
    if options.get("stream"):
        assert deltas == made.output_text + "".join(call[2] for call in calls)
    return made.output_text, calls, made.status


async def ask_messages(client, messages=None, *, stream=False):
    """Return text and calls of an answer, and the stop reason."""
    given = {"model": "m", "max_tokens": 100, "messages": messages or [USER]}
    if stream:
        async with client.messages.stream(**given) as events:
            async for _ in events:
                pass
            message = await events.get_final_message()
    else:
        message = await client.messages.create(**given)
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [
        (block.id, block.name, json.dumps(block.input))
        for block in message.content
        if block.type == "tool_use"
    ]
    return text, calls, message.stop_reason


ASK = {"chat": ask_chat, "responses": ask_responses, "messages": ask_messages}
ENDS = {
    "chat": ("tool_calls", "stop", "length"),
    "responses": ("completed", "completed", "incomplete"),
    "messages": ("tool_use", "end_turn", "max_tokens"),
}
every_api = pytest.mark.parametrize("api", ASK)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def client_of(model, api, **options):
    """Return the client that speaks the protocol."""
    return model.anthropic(**options) if api == "messages" else model.openai(**options)


@every_api
@both_ways
async def test_text_and_calls_arrive_through_the_real_client(api, stream):
    """What was scripted is what the SDK gives, with ids and the reason of the end."""
    model = ScriptedModel(
        [Reply("Let me look.", CALLS), "The answer.", Reply("half", truncated=True)]
    )
    async with client_of(model, api) as client:
        text, calls, end = await ASK[api](client, stream=stream)
        assert (text, end) == ("Let me look.", ENDS[api][0])
        prefix = "toolu" if api == "messages" else "call"
        assert [call[0] for call in calls] == [f"{prefix}_1", f"{prefix}_2"]
        assert [(name, json.loads(args)) for _, name, args in calls] == CALLS
        assert await ASK[api](client, stream=stream) == ("The answer.", [], ENDS[api][1])
        assert await ASK[api](client, stream=stream) == ("half", [], ENDS[api][2])
    assert model.left == 0
    assert [request.api for request in model.requests] == [api] * 3
    assert model.bodies[0]["model"] == "m"


@every_api
@both_ways
async def test_tokens_take_their_time(api, stream):
    """Delay and speed are exact in virtual time, whether the answer streams or not."""
    model = ScriptedModel(["x" * 40], delay=5, speed=2)
    async with client_of(model, api) as client:
        start = anyio.current_time()
        await ASK[api](client, stream=stream)
        assert anyio.current_time() - start == pytest.approx(5 + 10 / 2, abs=1e-9)


@every_api
async def test_a_bad_conversation_is_refused_with_the_providers_text(api):
    """A result that nobody asked for gives the SDK's own error for a 400."""
    import anthropic
    import openai

    bad = {
        "chat": [USER, {"role": "tool", "tool_call_id": "z", "content": "x"}],
        "responses": [{"type": "function_call_output", "call_id": "z", "output": "x"}],
        "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "z"}]},
        ],
    }[api]
    error = (anthropic if api == "messages" else openai).BadRequestError
    model = ScriptedModel(["never used"])
    async with client_of(model, api) as client:
        with pytest.raises(error) as caught:
            await ASK[api](client, bad)
    assert model.requests[0].problems[0] in str(caught.value)
    assert model.left == 1
    lenient = ScriptedModel(["fine"], strict=False)
    async with client_of(lenient, api) as client:
        assert (await ASK[api](client, bad))[0] == "fine"
    assert lenient.requests[0].problems


@every_api
async def test_a_script_that_is_too_short_says_so(api):
    """The error names how many replies there were, and nothing is retried."""
    import anthropic
    import openai

    model = ScriptedModel(["one"])
    error = (anthropic if api == "messages" else openai).BadRequestError
    async with client_of(model, api) as client:
        await ASK[api](client)
        with pytest.raises(error, match="the script has 1 replies; this is request 2"):
            await ASK[api](client)
    assert len(model.requests) == 2


@every_api
async def test_the_clients_retries_are_real(api):
    """A scripted 429 is retried by the SDK, after the time that its header asks for."""
    model = ScriptedModel([Reply("slow down", status=429, headers={"retry-after": "40"}), "ok"])
    async with client_of(model, api) as client:
        start = anyio.current_time()
        assert (await ASK[api](client))[0] == "ok"
        assert anyio.current_time() - start == pytest.approx(40, abs=1e-9)


@every_api
async def test_a_stream_that_breaks(api):
    """The connection drops in the middle, as an error of the SDK or its transport."""
    model = ScriptedModel([Reply("a long text", breaks=3)])
    async with client_of(model, api, max_retries=0) as client:
        with pytest.raises(Exception, match=r"dropped the connection|Connection error"):
            await ASK[api](client, stream=True)


@every_api
async def test_a_reader_that_leaves_early(api):
    """A stream that is cancelled in the middle leaves nothing behind."""
    model = ScriptedModel(["x" * 400], speed=1)
    async with client_of(model, api) as client:
        with anyio.move_on_after(10) as scope:
            await ASK[api](client, stream=True)
        assert scope.cancelled_caught


async def test_previous_response_id_stands_for_its_items():
    """With the id of the last response only the outputs are sent; a wrong id is refused."""
    import openai

    model = ScriptedModel([CALLS, "done", "never"])
    async with model.openai() as client:
        first = await client.responses.create(model="m", input="hello")
        outputs = [
            {"type": "function_call_output", "call_id": i.call_id, "output": "ok"}
            for i in first.output
        ]
        last = await client.responses.create(
            model="m", input=outputs, previous_response_id=first.id
        )
        assert last.output_text == "done"
        with pytest.raises(openai.BadRequestError, match="No tool output found"):
            await client.responses.create(
                model="m", input=outputs[:1], previous_response_id=first.id
            )
        with pytest.raises(openai.BadRequestError, match="'nix' not found"):
            await client.responses.create(model="m", input="x", previous_response_id="nix")


async def test_replies_may_depend_on_the_request():
    """A function in the script gets the body; arguments that are text go out as they are."""
    model = ScriptedModel([lambda body: [("echo", body["messages"][0]["content"])]])
    async with model.openai() as client:
        _, calls, _ = await ask_chat(client, [{"role": "user", "content": "{not json"}])
    assert calls == [("call_1", "echo", "{not json")]


@both_ways
async def test_raw_replies_go_out_as_they_are(stream):
    """A body, or the events of a stream, that the neutral form cannot express."""
    raw = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    choice = {"index": 0, "finish_reason": "stop"}
    message = {"role": "assistant", "content": "raw"}
    reply = {**raw, "choices": [{**choice, "message": message}]}
    if stream:
        reply = Reply(events=[{**raw, "choices": [{**choice, "delta": message}]}])
    async with ScriptedModel([reply]).openai() as client:
        assert await ask_chat(client, stream=stream) == ("raw", [], "stop")


@pytest.mark.parametrize(
    ("reply", "stream", "says"),
    [
        ({"id": "x"}, True, "give Reply"),
        (Reply(events=[]), False, "does not stream"),
        ([("f", "{not json")], False, "cannot answer"),
    ],
)
async def test_a_reply_that_cannot_be_sent_says_why(reply, stream, says):
    """The form of a reply must fit the request; the error is one of the SDK's."""
    import anthropic

    async with ScriptedModel([reply]).anthropic() as client:
        with pytest.raises(anthropic.BadRequestError, match=says):
            await ask_messages(client, stream=stream)


async def test_a_path_without_a_script_is_not_found():
    """Only the three protocols are there."""
    import openai

    async with ScriptedModel(["x"]).openai() as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.list()
    assert caught.value.response.text == "no script for /v1/models"


async def test_copies_of_a_client_are_scripted_too():
    """`with_options` keeps the transport, and asks no thread for the platform."""
    model = ScriptedModel(["one", "two"])
    async with model.openai() as client:
        assert (await ask_chat(client.with_options(timeout=3)))[0] == "one"
    async with model.anthropic() as client:
        assert (await ask_messages(client.with_options(max_retries=0)))[0] == "two"


async def test_the_usage_comes_last_where_it_was_asked_for():
    """A chat stream ends with a chunk that has the usage and no choices."""
    model = ScriptedModel(["x" * 9])
    async with model.openai() as client:
        stream = await client.chat.completions.create(
            model="m", messages=[USER], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3


def test_importing_the_helpers_loads_no_provider():
    """`import dagexec.testing` stays light."""
    program = (
        "import sys, dagexec.testing\n"
        "print([n for n in ('openai', 'anthropic', 'httpx2', 'trio') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
