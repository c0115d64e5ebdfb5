"""The loop of model and tools, over the real SDK clients and a scripted model."""

from __future__ import annotations

import json
import math

import anyio
import pytest

from dagexec import DagexecError, Executor, Report, Timeouts, tool
from dagexec.testing import Reply, ScriptedModel, ToolBox, check_conversation
from planners import Dialogue, Solution, solve
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

pytestmark = pytest.mark.anyio
PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}


@pytest.fixture(params=PLANNERS)
def api(request):
    """Return each of the three APIs in turn."""
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request):
    """Say whether replies are streamed."""
    return request.param


def box_of_tools():
    """Return a box: `look` reads for 1 s, `change` writes for 1 s, `fail` and `hang` do that."""
    box = ToolBox()
    box.tool("look", seconds=1, returns="seen", effect="read")
    box.tool("change", seconds=1, returns="changed")
    box.tool("fail", seconds=0.5, raises=ValueError("no luck"), effect="read")
    box.tool("hang", hangs=True, effect="read", timeout=3)
    return box


def setting(api, script, tools=None, *, planner=None, **model):
    """Return what `solve` takes, and the model."""
    tools = box_of_tools().tools if tools is None else tools
    scripted = ScriptedModel(script, **model)
    client = scripted.anthropic() if api == "messages" else scripted.openai()
    planner = planner or PLANNERS[api](tools)
    options = {"planner": planner, "client": client, "model": "m", "executor": Executor(tools)}
    return options, scripted


def sent(api, body):
    """Return the messages of a request."""
    return body["input" if api == "responses" else "messages"]


def body_of(conversation):
    """Return the body of a request that sends the conversation again."""
    name = "input" if conversation.planner.api.name == "responses" else "messages"
    return {name: conversation.messages}


def problems(conversation):
    """Return what the provider would refuse in it."""
    return check_conversation(conversation.planner.api.name, body_of(conversation))


# -------------------------------------------------------------------------------------- the answer


async def test_an_answer_is_a_text_with_its_way(api, stream):
    """It compares, prints and goes into JSON as text; it carries reports and conversation."""
    script = [["Hm.", ("look", {}), ("fail", {}), ("hang", {})], [("change", {})], "It is seen."]
    options, model = setting(api, script)
    answer = await solve("What is it?", **options, stream=stream)
    assert answer == "It is seen."
    assert isinstance(answer, Solution)
    assert f"{answer}" == answer.text == str(answer)
    assert type(answer.text) is str
    assert json.dumps({"answer": answer}) == '{"answer": "It is seen."}'
    assert answer.ok
    answer.raise_for_status()
    assert (answer.status, answer.scope, answer.turns) == ("done", None, 3)
    assert all(isinstance(report, Report) for report in answer.reports)
    statuses = [[outcome.status for outcome in report.values()] for report in answer.reports]
    assert statuses == [["done", "failed", "timed_out"], ["done"]]
    assert [list(report) for report in answer.reports] == [["1", "2", "3"], ["4"]]
    assert answer.elapsed == pytest.approx(4)
    assert answer.messages is answer.conversation.messages
    assert answer.conversation.turns == 3
    assert model.left == 0
    assert problems(answer.conversation) == []
    system = {"chat": "messages", "responses": "instructions", "messages": "system"}[api]
    assert "numbered 1, 2, 3" in str(model.bodies[0][system])
    assert all(body["tools"] for body in model.bodies)
    assert all(bool(body.get("stream")) is stream for body in model.bodies)


async def test_a_first_answer_without_calls(api, stream):
    """No report, one turn; the question is the one message of the first request."""
    options, model = setting(api, ["Yes."])
    answer = await solve(
        "Is it?", **options, stream=stream, system="Be short.", metadata={"user_id": "u"}
    )
    assert answer == "Yes."
    assert answer.reports == ()
    assert model.bodies[0]["metadata"] == {"user_id": "u"}
    assert "Be short." in json.dumps(model.bodies[0])
    users = [m for m in sent(api, model.bodies[0]) if m["role"] == "user"]
    assert users == [{"role": "user", "content": "Is it?"}]


async def test_questions_as_messages(api):
    """A question may be messages in the API's form."""
    options, model = setting(api, ["Yes."])
    question = [{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}]
    assert await solve(question, **options) == "Yes."
    assert sent(api, model.bodies[0])[-2:] == question


async def test_no_tools_and_no_references():
    """What is empty is not sent: the API refuses an empty list of tools."""
    options, model = setting("chat", ["Yes."], [], planner=ChatPlanner([], references=False))
    assert await solve("Is it?", **options) == "Yes."
    assert "tools" not in model.bodies[0]
    assert [message["role"] for message in model.bodies[0]["messages"]] == ["user"]


async def test_tools_of_the_provider_are_added(api):
    """`tools=` are those that the provider runs itself."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    options, model = setting(api, ["Yes."])
    await solve("Is it?", **options, tools=[search])
    assert model.bodies[0]["tools"] == [*options["planner"].tools, search]


# ------------------------------------------------------------------------------------ across turns


async def test_numbers_and_values_go_on(api, stream):
    """A later turn refers to an earlier one's result, which the model saw cut."""
    long = "x" * 50 + "END"

    @tool(effect="read")
    async def fetch() -> dict:
        """Fetch."""
        return {"text": long, "n": 3}

    @tool(effect="pure")
    async def size(text: str, add: int = 0) -> int:
        """Measure."""
        return len(text) + add

    tools = [fetch, size]
    later = [("size", {"text": {"$ref": "1.text"}, "add": {"$ref": "1.n"}})]
    script = [[("fetch", {})], later, [("size", {"text": {"$template": "${1.text}${2}"}})], "Done."]
    options, model = setting(api, script, tools, planner=PLANNERS[api](tools, limit=20))
    answer = await solve("Go.", **options, stream=stream)
    assert [report.outputs for report in answer.reports[1:]] == [{"2": 56}, {"3": 55}]
    shown = json.dumps(model.bodies[1])
    assert "END" not in shown
    assert "[cut: 20 of " in shown
    assert "$ref" in shown


async def test_a_conversation_goes_on(api, stream):
    """Another question in the same conversation; its solution has its own reports."""
    options, model = setting(api, [[("look", {})], "One.", [("look", {})], "Two."])
    first = await solve("First?", **options, stream=stream)
    second = await solve("Second?", **options, stream=stream, conversation=first.conversation)
    assert (first, second) == ("One.", "Two.")
    assert second.conversation is first.conversation
    assert list(second.reports[0]) == ["2"]
    assert len(second.reports) == 1
    assert len(second.conversation.reports) == 2
    assert second.turns == 2
    assert problems(second.conversation) == []
    assert not any(request.problems for request in model.requests)


async def test_a_planner_leads_one_conversation(api):
    """A second question without a conversation begins a new one, with numbers from 1."""
    options, _ = setting(api, [[("look", {})], "One.", [("look", {})], "Two."])
    first = await solve("First?", **options)
    second = await solve("Second?", **options)
    assert first.conversation.planner is options["planner"]
    assert second.conversation.planner is not options["planner"]
    assert list(second.reports[0]) == ["1"]
    assert len(first.conversation.messages) == len(second.conversation.messages)


async def test_conversations_side_by_side(api):
    """One planner, many conversations at a time."""
    tools = box_of_tools().tools
    planner, executor = PLANNERS[api](tools), Executor(tools)
    answers = {}

    async def ask(name):
        options, _ = setting(api, [[("look", {})], [("look", {"x": {"$ref": "1"}})], name], tools)
        options |= {"planner": planner, "executor": executor}
        answers[name] = await solve(name, **options)

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(ask, name)
    assert sorted(answers) == ["a", "b", "c"]
    assert all(name == answer for name, answer in answers.items())
    assert all([list(r) for r in answer.reports] == [["1"], ["2"]] for answer in answers.values())


async def test_a_restart_in_the_middle(api, stream):
    """JSON both ways: numbers, values and messages go on in a process that knows only the tools."""
    script = [[("look", {}), ("fail", {})], [("change", {})], "One."]
    options, _ = setting(api, script)
    first = await solve("First?", **options, stream=stream, system="Be short.")
    text = first.conversation.to_json()
    restored = Dialogue.from_json(text, PLANNERS[api](box_of_tools().tools))
    assert restored.to_json() == text
    assert json.loads(text)["version"] == 1
    assert problems(restored) == []
    calls = [("echo", {"of": {"$ref": "1"}}), ("echo", {"of": {"$ref": "2"}})]

    @tool(effect="read")
    async def echo(of: str) -> str:
        """Echo."""
        return f"<{of}>"

    tools = [*box_of_tools().tools, echo]
    restored = Dialogue.from_json(text, PLANNERS[api](tools))
    options, model = setting(api, [calls, "Two."], tools)
    second = await solve("Second?", **options, stream=stream, conversation=restored)
    assert second == "Two."
    assert list(second.reports[0]) == ["4", "5"]
    assert second.reports[0]["4"].value == "<seen>"
    assert second.reports[0]["5"].status == "failed"
    assert "Be short." in json.dumps(model.bodies[0])
    assert problems(restored) == []
    assert (
        Dialogue.from_json(restored.to_json(), PLANNERS[api](tools)).messages == restored.messages
    )


async def test_values_that_json_cannot_hold_are_known_to_be_lost(api):
    """A reference to one is told so after a restart; it does not become its type's name."""

    class Thing:
        """Not for JSON."""

    @tool(effect="read")
    async def make() -> Thing:
        """Make."""
        return Thing()

    @tool(effect="read")
    async def use(thing: object) -> str:
        """Use."""
        return type(thing).__name__

    tools = [make, use]
    options, _ = setting(
        api, [[("make", {})], "One.", [("use", {"thing": {"$ref": "1"}})], "Two."], tools
    )
    first = await solve("First?", **options)
    text = first.conversation.to_json()
    second = await solve("Second?", **options, conversation=first.conversation)
    assert second.reports[0].outputs == {"2": "Thing"}
    options, _ = setting(api, [[("use", {"thing": {"$ref": "1"}})], "Two."], tools)
    restored = Dialogue.from_json(text, PLANNERS[api](tools))
    third = await solve("Second?", **options, conversation=restored)
    assert third.reports[0]["2"].status == "failed"
    assert "has no result" in str(third.reports[0]["2"].error)


@pytest.mark.parametrize("ids", [["same", "same"], ["", ""], ["same", ""], ["x" * 40, "x" * 40]])
async def test_servers_that_send_the_same_ids_again(api, ids):
    """Or none: each call gets an id of its own, which its answer has too."""
    tools = box_of_tools().tools
    planner, body = (
        PLANNERS[api](tools),
        {"chat": _chat, "responses": _responses}.get(api, _messages),
    )
    talk = Dialogue(planner)
    talk.say("Go.")
    for turn in range(3):
        response = body(ids if turn else [*ids[:1], "other"])
        report = await Executor(tools).run(planner.plan(response))
        talk.keep(response, report)
        talk.turns += 1
        assert problems(talk) == [], talk.messages
    found = [at[key] for at, key in planner.api.places(talk.messages)]
    assert all(found)
    assert len(set(found)) * 2 == len(found)
    before = list(talk.messages)
    talk.update(talk.reports[1])
    assert talk.messages == before


def _chat(ids):
    function = {"name": "look", "arguments": "{}"}
    calls = [{"id": id, "type": "function", "function": function} for id in ids]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}


def _responses(ids):
    call = {"type": "function_call", "name": "look", "arguments": "{}"}
    return {"status": "completed", "output": [{**call, "call_id": id} for id in ids]}


def _messages(ids):
    use = {"type": "tool_use", "name": "look", "input": {}}
    content = [{**use, "id": id} for id in ids]
    return {"role": "assistant", "content": content, "stop_reason": "tool_use"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "api": "x"}'])
async def test_what_is_no_conversation(text):
    """It is refused with the reason."""
    with pytest.raises(DagexecError, match="this conversation cannot be read"):
        Dialogue.from_json(text, ChatPlanner([]))


async def test_calls_that_wait_for_a_person(api):
    """The loop stops; an answer that comes later takes the place of what was said before."""

    @tool(effect="write", approval=True)
    async def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    options, model = setting(api, [[("pay", {"amount": 5})], "Paid."], [pay])
    answer = await solve("Pay 5.", **options)
    assert (answer.status, answer.ok) == ("pending", False)
    assert problems(answer.conversation) == []
    with pytest.raises(DagexecError, match="wait for a person"):
        answer.raise_for_status()
    talk = Dialogue.from_json(answer.conversation.to_json(), PLANNERS[api]([pay]))
    known = json.loads(talk.reports[0].to_json())
    known["outcomes"]["1"] = {"status": "done", "value": "paid 5", "attempts": 1}
    talk.update(Report.from_json(json.dumps(known)))
    assert await solve(None, **options, conversation=talk) == "Paid."
    assert "paid 5" in json.dumps(model.bodies[1])
    assert "Not run yet" not in json.dumps(model.bodies[1])
    with pytest.raises(DagexecError, match="of no turn"):
        talk.update(await Executor([]).run([]))


# -------------------------------------------------------------------------------------- ways to end


async def test_max_turns(api, stream):
    """The last reply's calls are run and answered; the text is what was said last."""
    script = [["Hm.", ("look", {})], [("look", {})], [("look", {})]]
    options, model = setting(api, script)
    answer = await solve("Go.", **options, stream=stream, max_turns=2)
    assert (answer.status, answer, answer.turns) == ("max_turns", "Hm.", 2)
    assert len(model.requests) == 2
    assert len(answer.reports) == 2
    assert problems(answer.conversation) == []
    with pytest.raises(DagexecError, match="after 2 turns") as caught:
        answer.raise_for_status()
    assert caught.value.report is answer.reports[-1]


async def test_replies_that_are_cut_off(api, stream):
    """With calls the model hears of it and goes on; without, the text so far is returned."""
    cut = Reply("Half", [("look", {}), ("change", {})], truncated=True)
    options, model = setting(api, [cut, Reply("And so", truncated=True)])
    answer = await solve("Go.", **options, stream=stream)
    assert (answer, answer.status) == ("And so", "cut_off")
    assert "cut off" in json.dumps(model.bodies[1])
    assert problems(answer.conversation) == []


async def test_refusals():
    """Where an API says that the model or a filter refused."""
    message = {"role": "assistant", "content": None, "refusal": "No."}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    chat = {"object": "chat.completion", "choices": [choice]}
    part = {"type": "refusal", "refusal": "No."}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    responses = {"object": "response", "id": "r", "status": "completed", "output": [item]}
    said = {"type": "message", "role": "assistant", "stop_reason": "refusal"}
    messages = {**said, "content": [{"type": "text", "text": "No."}]}
    for api, raw in (("chat", chat), ("responses", responses), ("messages", messages)):
        options, _ = setting(api, [raw, "Yes."])
        answer = await solve("Go.", **options)
        assert (answer, answer.status) == ("No.", "refused")
        assert problems(answer.conversation) == []
        assert await solve("Please.", **options, conversation=answer.conversation) == "Yes."


async def test_a_turn_that_goes_on():
    """Anthropic's pause_turn: the message goes back as it is, and the model continues."""
    use = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"q": "x"}}
    raw = {"type": "message", "role": "assistant", "stop_reason": "pause_turn", "content": [use]}
    options, model = setting("messages", [raw, "Found."])
    assert await solve("Search.", **options) == "Found."
    assert model.bodies[1]["messages"][-1] == {"role": "assistant", "content": [use]}


async def test_a_failed_response():
    """A response that failed is an error; the conversation is as it was before."""
    raw = {"object": "response", "id": "r", "status": "failed", "output": [],
           "error": {"code": "server_error", "message": "boom"}}  # fmt: skip
    options, _ = setting("responses", [raw])
    talk = Dialogue(options["planner"])
    with pytest.raises(DagexecError, match="boom"):
        await solve("Go.", **options, conversation=talk)
    assert problems(talk) == []


async def test_errors_of_the_api_pass_bare(api, stream):
    """The SDK's own error comes out, and the conversation can go on."""
    options, _ = setting(api, [[("look", {})], Reply("bad", status=400), "Fine."])
    talk = Dialogue(options["planner"])
    with pytest.raises(Exception, match="bad") as caught:
        await solve("Go.", **options, stream=stream, conversation=talk)
    assert type(caught.value).__name__ == "BadRequestError"
    assert problems(talk) == []
    assert await solve(None, **options, conversation=talk) == "Fine."


async def test_streams_that_break(api):
    """What was done is kept; the error has the report; the conversation goes on."""
    calls = [("look", {}), ("change", {}), ("look", {"x": "y" * 90})]
    found = []
    for breaks in range(60):
        options, _ = setting(api, [Reply("Hm.", calls, breaks=breaks), "Fine."], speed=5)
        talk = Dialogue(options["planner"])
        try:
            await solve("Go.", **options, stream=True, conversation=talk)
        except Exception as error:  # before the first event the SDK's own
            found.append(error)
        else:
            break
        assert problems(talk) == [], breaks
        assert await solve("Go on.", **options, conversation=talk) == "Fine."
    assert breaks > 10
    late = found[-6]
    assert isinstance(late, DagexecError)
    assert late.report["1"].status == "done"
    assert "source of the plan broke" in str(late)


async def test_deadline_of_a_turn(api, stream):
    """One reply and its calls: the partial answer, all reports, and no unanswered call."""
    script = [
        ["Let me see.", ("look", {})],
        [("look", {}), ("slow", {}), ("after", {"x": {"$ref": "3"}})],
    ]
    box = box_of_tools()
    box.tool("slow", hangs=True, effect="read")
    box.tool("after", effect="read")
    options, _ = setting(api, script, box.tools, delay=0.5)
    options["executor"] = Executor(box.tools, timeouts=Timeouts(call=None, turn=2.5, workflow=60))
    answer = await solve("Go.", **options, stream=stream)
    assert (answer.status, answer.scope, answer) == ("timed_out", "turn", "Let me see.")
    assert answer.elapsed == pytest.approx(1.5 + 2.5)
    last = answer.reports[-1]
    assert [outcome.status for outcome in last.values()] == ["done", "timed_out", "timed_out"]
    assert {outcome.scope for outcome in last.values()} == {None, "turn"}
    assert len(answer.reports) == 2
    assert problems(answer.conversation) == []
    assert box.running == []
    with pytest.raises(DagexecError, match="deadline of the turn"):
        answer.raise_for_status()


async def test_deadline_of_the_workflow(api, stream):
    """All turns together; a deadline in the middle of the calls."""
    script = [[("look", {})]] * 9
    box = box_of_tools()
    options, model = setting(api, script, box.tools, delay=0.5)
    options["executor"] = Executor(box.tools, timeouts=Timeouts(turn=1.7, workflow=4))
    answer = await solve("Go.", **options, stream=stream)
    assert (answer.status, answer.scope) == ("timed_out", "workflow")
    assert answer.elapsed == pytest.approx(4)
    assert len(model.requests) == 3
    assert [report["123"[at]].status for at, report in enumerate(answer.reports)] == [
        "done", "done", "timed_out"]  # fmt: skip
    assert answer.reports[-1]["3"].scope == "workflow"
    assert problems(answer.conversation) == []


async def test_deadline_while_the_model_is_silent(api, stream):
    """The model does not answer at all."""
    options, _ = setting(api, [[("look", {})], Reply("x", delay=math.inf)])
    options["executor"] = Executor(options["executor"].tools.values(), timeouts=Timeouts(turn=3))
    answer = await solve("Go.", **options, stream=stream)
    assert (answer, answer.status, answer.scope) == ("", "timed_out", "turn")
    assert answer.elapsed == pytest.approx(4)
    assert len(answer.reports) == 1
    assert problems(answer.conversation) == []


async def test_deadline_while_the_model_writes(api):
    """At every moment of the stream; what was said so far is the partial answer."""
    calls = [("look", {}), ("change", {}), ("look", {"x": "y" * 20})]
    texts = set()
    for tenths in range(1, 60):
        options, _ = setting(api, [Reply("Let me see.", calls), "Fine."], speed=5)
        tools = options["executor"].tools.values()
        options["executor"] = Executor(tools, timeouts=Timeouts(turn=tenths / 10))
        answer = await solve("Go.", **options, stream=True)
        assert problems(answer.conversation) == []
        if answer.ok:
            break
        assert answer.elapsed == pytest.approx(tenths / 10)
        assert "Let me see.".startswith(answer)
        texts.add(answer.text)
        assert all(o.scope in (None, "turn") for r in answer.reports for o in r.values())
    assert {"", "Let ", "Let me see."} <= texts
    assert answer.ok


async def test_a_failure_that_stops_the_run(api, stream):
    """on_failure="stop": the model hears what was stopped, and goes on."""
    options, model = setting(api, [[("fail", {}), ("look", {}), ("change", {})], "Fine."])
    tools = options["executor"].tools.values()
    options["executor"] = Executor(tools, on_failure="stop")
    assert await solve("Go.", **options, stream=stream) == "Fine."
    assert "no luck" in json.dumps(model.bodies[1])


# ------------------------------------------------------------------------------- hooks and the rest


async def test_hooks(api, stream):
    """Before and after each turn, sync and async; the request can be changed."""
    seen = []

    def before(turn):
        seen.append(("before", turn.number, turn.response))
        turn.request["metadata"] = {"user_id": str(turn.number)}

    async def after(turn):
        await anyio.sleep(1)
        seen.append(("after", turn.number, turn.text, turn.report and list(turn.report)))

    options, model = setting(api, [["Hm.", ("look", {})], "Done."])
    answer = await solve("Go.", **options, stream=stream, before_turn=before, after_turn=after)
    assert seen == [
        ("before", 1, None),
        ("after", 1, "Hm.", ["1"]),
        ("before", 2, None),
        ("after", 2, "Done.", None),
    ]
    assert [body["metadata"]["user_id"] for body in model.bodies] == ["1", "2"]
    assert answer.elapsed == pytest.approx(3)


async def test_a_hook_that_raises(api, stream):
    """It ends the loop; the conversation holds what was answered."""
    for place in ("before_turn", "after_turn"):

        def hook(turn):
            raise KeyError(turn.number)

        options, _ = setting(api, [[("look", {})], "Done."])
        talk = Dialogue(options["planner"])
        with pytest.raises(KeyError):
            await solve("Go.", **options, stream=stream, conversation=talk, **{place: hook})
        assert problems(talk) == []
        assert len(talk.reports) == (place == "after_turn")


async def test_a_hook_that_never_ends(api):
    """The workflow's deadline holds for it too."""

    async def hook(turn):
        await anyio.sleep_forever()

    options, _ = setting(api, ["Done."])
    answer = await solve("Go.", **options, before_turn=hook)
    assert (answer.status, answer.scope, answer.elapsed) == ("timed_out", "workflow", 600)


async def test_events_are_shown(api):
    """Each event of the stream, as the SDK gives it."""
    seen = []
    options, _ = setting(api, ["Done."])
    assert await solve("Go.", **options, stream=True, on_event=seen.append) == "Done."
    assert len(seen) > 3


async def test_sub_agents_keep_to_the_executors_concurrency(api):
    """A tool that solves with the same executor gives its slot back while its calls run."""
    box = box_of_tools()

    @tool(effect="read", timeout=99)
    async def agent(topic: str) -> str:
        """Ask another model."""
        inner, _ = setting(api, [[("look", {}), ("look", {"x": 1})], f"{topic} is done."])
        return str(await solve(topic, **{**inner, "executor": executor}))

    tools = [*box.tools, agent]
    executor = Executor(tools, concurrency=2)
    planner = PLANNERS[api](tools)
    calls = [("agent", {"topic": topic}) for topic in "abcde"]
    options, _ = setting(api, [calls, "All done."], tools, planner=planner)
    answer = await solve("Go.", **{**options, "executor": executor})
    assert answer == "All done."
    assert answer.reports[0].outputs == {str(i): f"{t} is done." for i, t in enumerate("abcde", 1)}
    most = max(sum(s.started <= each.started < s.ended for s in box.log) for each in box.log)
    assert most <= 2


async def test_arguments_that_cannot_be(api):
    """Each is told with the way out, before anything is asked."""
    options, model = setting(api, ["Done."])
    wrong = [
        ({"max_turns": 0}, "at least 1"),
        ({"max_turns": True}, "at least 1"),
        ({"messages": []}, "makes messages itself"),
        ({"executor": Executor([])}, "has no tool look"),
        ({"client": object()}, "has no"),
        (
            {"conversation": Dialogue(PLANNERS["chat" if api != "chat" else "messages"]([]))},
            "is one",
        ),
    ]
    for change, text in wrong:
        with pytest.raises(DagexecError, match=text):
            await solve("Go.", **{**options, **change})
    with pytest.raises(DagexecError, match="nothing to ask"):
        await solve(None, **options)
    import anthropic
    import openai

    cls = anthropic.Anthropic if api == "messages" else openai.OpenAI
    with pytest.raises(DagexecError, match="synchronous client"):
        await solve("Go.", **{**options, "client": cls(api_key="k")})
    assert model.requests == []


@pytest.mark.parametrize(("name", "given"), [("planner", None), ("executor", "x")])
async def test_other_things_than_a_planner_and_an_executor_are_refused(name, given):
    """Before anything is asked."""
    right = {"planner": ChatPlanner([]), "executor": Executor()}
    with pytest.raises(DagexecError, match=rf"solve\({name}=\) takes an? {name.title()}, not"):
        await solve("x", client=None, model="m", **{**right, name: given})


async def test_an_engine_is_told_how_the_loop_is_written():
    """It has runs of its own, and no turns that a deadline spans."""

    class Engine:
        async def resume(self) -> None: ...

        async def work(self) -> None: ...

    with pytest.raises(DagexecError, match=r"not .*Engine: with an engine write the loop out"):
        await solve("x", planner=ChatPlanner([]), client=None, model="m", executor=Engine())
