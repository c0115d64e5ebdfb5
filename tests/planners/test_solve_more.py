"""Final answers of a type, a person who is asked, tokens in all, and updates for an interface."""

from __future__ import annotations

import datetime as dt
import json
import threading

import anyio
import pytest
from pydantic import BaseModel

from dagexec import Approve, Call, DagexecError, Deny, Edit, Executor, Timeouts, ask, tool
from dagexec.journal import MemoryJournal
from dagexec.testing import ScriptedModel, check_conversation
from planners import CallBegan, CallEnded, Said, solve, solving
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

pytestmark = pytest.mark.anyio
PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}


class Offer(BaseModel):
    """What the model answers."""

    title: str
    price: float
    until: dt.date | None = None


@tool(effect="read")
async def look(title: str = "Dune") -> str:
    """Look it up, for a second."""
    await anyio.sleep(1)
    return f"{title}: 7.25"


@tool(approval=True)
async def order(title: str = "Dune") -> str:
    """Order, if a person agrees."""
    return f"ordered {title}"


@tool
async def choose() -> str:
    """Ask which one."""
    return f"chosen: {await ask('which?')}"


@tool
async def slow() -> str:
    """Take a second."""
    await anyio.sleep(1)
    return "slow"


TOOLS = [look, order, choose, slow]


@pytest.fixture(params=PLANNERS)
def api(request):
    """Return each of the three APIs in turn."""
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request):
    """Say whether replies are streamed."""
    return request.param


def setting(api, script, *, timeouts=None, **model):
    """Return what `solve` takes, and the model."""
    scripted = ScriptedModel(script, **model)
    client = scripted.anthropic() if api == "messages" else scripted.openai()
    return {
        "planner": PLANNERS[api](TOOLS),
        "client": client,
        "model": "m",
        "executor": Executor(TOOLS, timeouts=timeouts),
    }, scripted


def saying(*answers):
    """Return an approver that gives these answers, one after the other."""
    left = iter(answers)

    async def approve(waiting):
        return next(left)

    return approve


def problems(answer):
    """Return what the provider would refuse in a conversation."""
    api = answer.conversation.planner.api.name
    name = "input" if api == "responses" else "messages"
    return check_conversation(api, {name: answer.messages})


# ------------------------------------------------------------------------------- answers of a type


async def test_an_answer_of_a_type(api, stream):
    """The API is asked for it in its own form, and the answer is a value."""
    text = '{"title": "Dune", "price": 7.25, "until": "2026-12-24"}'
    options, model = setting(api, [[("look", {})], text])
    answer = await solve("What does it cost?", **options, stream=stream, output_type=Offer)
    assert answer.output == Offer(title="Dune", price=7.25, until=dt.date(2026, 12, 24))
    assert answer.ok
    assert answer == text
    for body in model.bodies:
        form = {
            "chat": lambda body: body["response_format"]["json_schema"],
            "responses": lambda body: body["text"]["format"],
            "messages": lambda body: body["output_config"]["format"],
        }[api](body)
        assert form["schema"]["additionalProperties"] is False
        assert set(form["schema"]["properties"]) == {"title", "price", "until"}
        assert "nothing but JSON of this schema" in json.dumps(body)
    assert problems(answer) == []


class Refused(Exception):
    """As the SDKs raise it for status 400."""

    status_code = 400


def refusing(client, api, told):
    """Have the client refuse every request that asks for a form; return what was asked."""
    holder, name = {
        "chat": (getattr(client, "chat", None) and client.chat.completions, "response_format"),
        "responses": (getattr(client, "responses", None), "text"),
        "messages": (getattr(client, "messages", None), "output_config"),
    }[api]
    create, asked = holder.create, []

    async def other(**request):
        asked.append(name in request)
        if name in request:
            raise Refused(told.format(name=name))
        return await create(**request)

    holder.create = other
    return asked


async def test_a_server_without_structured_output_is_asked_without_it(api, stream):
    """Once refused, no later request asks for it; the schema in the prompt is enough."""
    text = '{"title": "Dune", "price": 7.25}'
    options, _ = setting(api, [[("look", {})], text])
    asked = refusing(options["client"], api, "Invalid parameter: {name} of type 'json_schema'")
    answer = await solve("?", **options, stream=stream, output_type=Offer)
    assert answer.output == Offer(title="Dune", price=7.25)
    assert asked == [True, False, False]
    assert problems(answer) == []


async def test_another_refusal_is_raised(api):
    """The form has nothing to do with it."""
    options, _ = setting(api, ["1"])
    asked = refusing(options["client"], api, "no credit left")
    with pytest.raises(Refused, match="no credit left"):
        await solve("?", **options, output_type=Offer)
    assert asked == [True]


async def test_an_answer_that_does_not_fit_is_sent_back_once(api, stream):
    """With what is wrong in it."""
    options, model = setting(api, ['{"title": "Dune"}', '{"title": "Dune", "price": 7.25}'])
    answer = await solve("?", **options, stream=stream, output_type=Offer)
    assert answer.output == Offer(title="Dune", price=7.25)
    assert answer.turns == 2
    assert "price: Field required" in json.dumps(model.bodies[1])
    assert problems(answer) == []


async def test_an_answer_that_never_fits(api):
    """The solution says so, and has no output."""
    options, model = setting(api, ["It costs 7.25.", "Really."])
    answer = await solve("?", **options, output_type=Offer)
    assert (answer.status, answer.output, answer.ok) == ("wrong_output", None, False)
    assert answer == "Really."
    assert "it is not JSON" in json.dumps(model.bodies[1])
    with pytest.raises(DagexecError, match="does not have the form of output_type"):
        answer.raise_for_status()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (list[int], '{"value": [1, 2]}', [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (int, '```json\n{"value": 3}\n```', 3),
        (Offer | None, '{"value": null}', None),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (dict[str, str], '{"code": "```\\n1\\n```"}', {"code": "```\n1\n```"}),
        (tuple[str, dt.date], '{"value": ["a", "2026-01-02"]}', ("a", dt.date(2026, 1, 2))),
        (str, '{"value": "yes"}', "yes"),
        (list[Offer], '[{"title": "a", "price": 1}]', [Offer(title="a", price=1)]),
    ],
)
async def test_types_that_are_no_objects(api, kind, text, value):
    """They are wrapped in one; a model that does not wrap them is understood too."""
    options, _ = setting(api, [text])
    answer = await solve("?", **options, output_type=kind)
    assert answer.ok
    assert answer.output == value


class Choice(BaseModel):
    """What the model may leave out."""

    title: str
    copies: int = 1


async def test_what_may_be_left_out_is_null_where_the_api_wants_every_field(api):
    """As for the arguments of tools; the value has its default then."""
    options, model = setting(api, ['{"title": "Dune", "copies": null}'])
    answer = await solve("?", **options, output_type=Choice)
    assert answer.output == Choice(title="Dune", copies=1)
    text = json.dumps(model.bodies[0])
    assert '"required": ["title", "copies"]' in text
    assert '{"anyOf": [{"type": "integer"}, {"type": "null"}]}' in text


async def test_options_of_the_same_name_are_kept():
    """The form is added to what was given."""
    options, model = setting("responses", ['{"value": 3}'])
    await solve("?", **options, output_type=int, text={"verbosity": "low"})
    assert model.bodies[0]["text"]["verbosity"] == "low"
    assert model.bodies[0]["text"]["format"]["strict"] is True


async def test_a_type_that_has_no_schema_is_refused():
    """Before anything is asked."""
    options, model = setting("chat", ["yes"])
    with pytest.raises(DagexecError, match=r"output_type=.* is no type that pydantic can describe"):
        await solve("?", **options, output_type=threading.Lock)
    assert model.bodies == []


# ------------------------------------------------------------------------------ a person is asked


async def test_a_person_who_is_there_needs_no_journal(api, stream):
    """Asked once with all calls that wait; what was approved has run when the model hears of it."""
    seen = []

    async def approve(waiting):
        seen.append({name: (each.tool, each.status) for name, each in waiting.items()})
        await anyio.sleep(5000)  # longer than every deadline
        return {
            name: Deny("too dear") if each.call.args["title"] == "B" else Edit({"title": "C"})
            for name, each in waiting.items()
        }

    script = [[("order", {"title": "A"}), ("order", {"title": "B"}), ("look", {})], "Done."]
    options, model = setting(api, script)
    answer = await solve("Order.", **options, stream=stream, approve=approve)
    assert answer.ok
    assert seen == [{"1": ("order", "pending"), "2": ("order", "pending")}]
    assert answer.reports[0].outputs == {"1": "ordered C", "3": "Dune: 7.25"}
    text = json.dumps(model.bodies[1])
    assert "ordered C" in text
    assert "too dear" in text
    assert problems(answer) == []


async def test_one_answer_for_all_and_questions_of_tools():
    """`ask()` is answered with values, as often as there are questions."""
    options, _ = setting("chat", [[("choose", {}), ("order", {})], "Done."])
    answers = [{"1": "red"}, Approve()]
    answer = await solve("?", **options, approve=saying(*answers))
    assert answer.reports[0].outputs == {"1": "chosen: red", "2": "ordered Dune"}


async def test_calls_without_an_answer_stay_pending():
    """As without `approve`."""
    options, _ = setting("chat", [[("order", {})], "Done."])
    answer = await solve("?", **options, approve=saying(None))
    assert answer.status == "pending"
    assert answer.reports[0]["1"].status == "pending"


async def test_answers_that_are_none():
    """The mistake is named."""
    options, _ = setting("chat", [[("order", {})], "Done."])
    with pytest.raises(DagexecError, match=r"\{call_id: Approve\(\)\}.*not a bool"):
        await solve("?", **options, approve=saying(True))
    options, _ = setting("chat", [[("order", {})], "Done."])
    with pytest.raises(DagexecError, match="answered '7', which does not wait; these do: 1"):
        await solve("?", **options, approve=saying({"7": Approve()}))


@pytest.mark.real_time
async def test_who_asks_at_the_keyboard_does_not_block_the_loop():
    """A function that is not async is called in a thread."""
    options, _ = setting("chat", [[("order", {})], "Done."])
    threads = []

    def approve(waiting):
        threads.append(threading.current_thread())
        return Approve()

    answer = await solve("?", **options, approve=approve)
    assert answer.reports[0].outputs == {"1": "ordered Dune"}
    assert threads != [threading.main_thread()]


async def test_with_a_journal_too():
    """The run is recorded there, with the answer."""
    journal = MemoryJournal()
    options, _ = setting("chat", [[("order", {})], "Done."])
    answer = await solve("?", **options, approve=saying(Approve()), journal=journal, run_id="c")
    assert answer.reports[0].outputs == {"1": "ordered Dune"}
    assert {info.id for info in await journal.runs()} == {"c", "c.1"}


async def test_a_deadline_still_holds():
    """The time of calls counts, that of the person does not."""

    async def approve(_):
        await anyio.sleep(100)
        return Approve()

    script = [[("order", {}), ("slow", {})], [("slow", {})], [("slow", {})], "Done."]
    options, _ = setting("chat", script, timeouts=Timeouts(workflow=2.5))
    answer = await solve("?", **options, approve=approve)
    assert (answer.status, answer.scope) == ("timed_out", "workflow")
    assert answer.reports[0].outputs == {"1": "ordered Dune", "2": "slow"}
    assert answer.reports[1].outputs == {"3": "slow"}


# ------------------------------------------------------------------------------ tokens, and updates


async def test_tokens_of_all_replies_together(api):
    """What each reply said that it used, as a sum."""
    options, _ = setting(api, [[("look", {})], "Seven."])
    answer = await solve("?", **options)
    once, _ = setting(api, ["Seven."])
    single = await solve("?", **once)
    assert set(answer.usage) == {"input_tokens", "output_tokens", "tokens"}
    assert all(type(amount) is int for amount in answer.usage.values())
    assert answer.usage["tokens"] == answer.usage["input_tokens"] + answer.usage["output_tokens"]
    assert answer.usage["output_tokens"] > single.usage["output_tokens"] > 0


async def test_updates_for_an_interface(api, stream):
    """Pieces of text, and calls that begin and end, in their order; then the answer."""
    options, _ = setting(api, [["Let me look.", ("look", {})], "It costs seven."])
    told = []
    async with solving("?", **options, stream=stream) as updates:
        async for update in updates:
            told.append(update)
    assert updates.solution == "It costs seven."
    said = [each.text for each in told if isinstance(each, Said)]
    assert "".join(said) == "Let me look.It costs seven."
    assert (len(said) > 2) is stream
    calls = [each for each in told if not isinstance(each, Said)]
    assert calls == [
        CallBegan(Call("1", "look", {})),
        CallEnded(Call("1", "look", {}), updates.solution.reports[0]["1"]),
    ]
    assert isinstance(told[0], Said)


async def test_updates_of_calls_that_wait_for_a_person(api):
    """A call that is done is told of once, one that waited when it waits and when it has ended."""
    script = [[("look", {}), ("order", {}), ("order", {"title": "B"})], "Done."]
    options, _ = setting(api, script)
    answers = saying({"2": Approve()}, {})
    told = []
    await solve("?", **options, approve=answers, on_update=told.append)
    ended = [(each.call.id, each.outcome.status) for each in told if isinstance(each, CallEnded)]
    assert ended == [
        *(("2", "pending"), ("3", "pending"), ("1", "done")),
        *(("2", "done"), ("3", "pending")),
    ]


async def test_updates_raise_what_solve_raises():
    """Bare, and not in a group."""
    options, _ = setting("chat", [])
    with pytest.raises(Exception, match="script") as caught:
        async with solving("?", **options) as updates:
            async for _ in updates:
                pass
    assert not isinstance(caught.value, BaseExceptionGroup)
    with pytest.raises(DagexecError, match="not there yet"):
        updates.solution  # noqa: B018


async def test_leaving_updates_early_ends_it():
    """Nothing of it is alive afterwards."""
    options, model = setting("chat", [[("look", {})], "Seven."])
    async with solving("?", **options) as updates:
        async for update in updates:
            if isinstance(update, CallBegan):
                break
    await anyio.sleep(10)
    assert model.left == 1
    with pytest.raises(DagexecError, match="enter it first"):
        aiter(solving("?", **options))


async def test_a_wrong_answer_is_sent_back_again_from_a_journal():
    """The same `solve` again asks for nothing twice."""
    journal = MemoryJournal()
    script = ["nothing", '{"value": 3}']
    options, _ = setting("chat", script)
    first = await solve("?", **options, output_type=int, journal=journal, run_id="c")
    options, model = setting("chat", script)
    again = await solve("?", **options, output_type=int, journal=journal, run_id="c")
    assert first.output == again.output == 3
    assert model.left == 2
