"""What a model writes becomes a plan in which the good calls run and the bad ones get an answer."""

from __future__ import annotations

import json

import pytest

from dagexec import DagexecError, Done, Executor, Failed, Ref, Template, tool
from dagexec.testing import check_conversation


@tool(effect="read")
async def search(query: str, limit: int = 3) -> dict:
    """Search."""
    return {"items": [{"url": f"{query}/{i}"} for i in range(limit)]}


@tool(effect="read")
async def fetch(url: str) -> str:
    """Fetch."""
    return f"<{url}>"


@tool(effect="pure")
async def merge(parts: list[str], note: str | None = None, extra: dict | None = None) -> list:
    """Merge."""
    return [parts, note, extra]


@tool(writes=("file:{path}",))
async def write(path: str, text: str) -> None:
    """Write."""


@tool(effect="read", reads=("file:{path}",))
async def read(path: str) -> str:
    """Read."""
    return path


TOOLS = [search, fetch, merge, write, read]


def problems(wire, *calls, **options):
    """Return the problem of each call, or None."""
    return [call.problem for call in wire.planner(TOOLS, **options).plan(wire.reply(*calls)).calls]


def deep(levels):
    """Return a value nested so many levels."""
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_references_become_edges(wire):
    """References by number, by the provider's own id, in templates and inside lists are edges."""
    reply = wire.reply(
        ("search", {"query": "a"}, "id_a"),
        ("fetch", {"url": {"$ref": "1.items[0].url"}}, "id_b"),
        ("fetch", {"url": {"$template": "${id_a.items[1].url}?${4}"}}, "id_c"),
        ("merge", {"parts": ["$5", {"$ref": "2"}], "note": "${HOME}"}, "id_d"),
    )
    plan = wire.planner(TOOLS).plan(reply)
    assert plan.edges == (("1", "2"), ("1", "3"), ("4", "3"), ("2", "4"))
    assert plan["2"].args == {"url": Ref("1", ("items", 0, "url"))}
    template = Template.from_parts([Ref("1", ("items", 1, "url")), "?", Ref("4")])
    assert plan["3"].args == {"url": template}
    assert plan["4"].args == {"parts": ["$5", Ref("2")], "note": "${HOME}"}


def test_dicts_and_sdk_objects_give_the_same_plan_in_all_three_apis(wires):
    """One request has one plan, whichever API carried it."""
    plans = []
    for wire in wires.values():
        reply = wire.reply(("search", {"query": "$5"}), ("fetch", {"url": {"$ref": "1.x"}}))
        plans.append(wire.planner(TOOLS).plan(reply))
        plans.append(wire.planner(TOOLS).plan(wire.planner.response(reply)))
    assert all(plan == plans[0] for plan in plans)
    assert len(plans) == 6


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("searchh", {}), "Did you mean 'search'? The tools are: search, fetch"),
        (("", {}), "There is no tool '(no name)'"),
        (("fetch", {}), "url: missing"),
        (("fetch", {"url": 5}), "url: "),
        (("fetch", {"url": "a", "depth": 1}), "depth: unknown argument"),
        (("fetch", {"url": {"$ref": "7"}}), "There is no call '7' to refer to"),
        (("fetch", {"url": {"$ref": "9" * 5000}}), "There is no call"),
        (("fetch", {"url": {"$ref": "search"}}), 'Write {"$ref": "1"} for \'search\''),
        (("fetch", {"url": {"$ref": "2"}}), "refers to itself"),
        (("fetch", {"url": {"$ref": "1.items["}}), "is no reference"),
        (("fetch", {"url": {"$ref": '1["\\}"]'}}), "is no reference"),
        (("fetch", {"url": {"$ref": f"1[{'9' * 5000}]"}}), "is no reference"),
        (("fetch", {"url": {"$ref": "1", "path": "a"}}), "has no other keys"),
        (("merge", {"parts": deep(200)}), "more than 100 deep"),
    ],
)
def test_a_bad_call_gets_a_problem_and_the_others_run(wire, call, expected):
    """Each mistake is told to the model in a way that helps it, and costs one call."""
    found = problems(wire, ("search", {"query": "a"}), call, ("fetch", {"url": "b"}))
    assert found[0] is None
    assert expected in found[1]
    assert found[2] is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"url": "a"', "not valid JSON"),
        ("[1]", "a JSON object with a name for each argument, not an array"),
        ('"url"', "not a string"),
        ("7", "not a number"),
        ("true", "not a boolean"),
        ('{"url":' + "[" * 100_000, "more than 100 deep"),
        ('{"url":' + "9" * 5000 + "}", "cannot be read"),
        ("", "url: missing"),
        ("null", "url: missing"),
        (None, "url: missing"),
    ],
)
def test_arguments_as_text(wires, arguments, expected):
    """Text that is no JSON object is a problem; no text at all is no arguments."""
    for api in ("chat", "responses"):
        (found,) = problems(wires[api], ("fetch", arguments))
        assert expected in found


def test_odd_but_valid_json(wires):
    """Infinity, repeated keys, half surrogates and spaces around are no reason to refuse a call."""

    @tool(effect="read")
    async def take(a: float = 0, b: str = "") -> None:
        """Take."""

    planner = wires["chat"].planner([take])
    texts = ['{"a": Infinity}', ' {"a": 1, "a": 2}\n', '{"b": "\\ud800"}', "  "]
    plan = planner.plan(wires["chat"].reply(*(("take", text) for text in texts)))
    assert [call.problem for call in plan.calls] == [None] * 4
    assert plan["2"].args == {"a": 2}


def test_cycles_cost_their_members_only(wire):
    """Calls that wait for each other get a problem; what hangs on them stays in the plan."""
    found = problems(
        wire,
        ("fetch", {"url": {"$ref": "2"}}),
        ("fetch", {"url": {"$ref": "1"}}),
        ("fetch", {"url": {"$ref": "2"}}),
        ("search", {"query": "a"}),
    )
    assert "1 -> 2" in found[0] or "2 -> 1" in found[0]
    assert "cycle" in found[1]
    assert found[2:] == [None, None]


def test_nulls_of_optional_arguments_are_dropped(wire):
    """A null for a parameter that does not allow it means that it was not given."""
    planner = wire.planner(TOOLS)
    calls = [
        ("search", {"query": "a", "limit": None}),
        ("merge", {"parts": [], "note": None}),
        ("search", {"query": None}),
    ]
    plan = planner.plan(wire.reply(*calls))
    assert plan["1"].args == {"query": "a"}
    assert plan["2"].args == {"parts": [], "note": None}
    assert "query" in plan["3"].problem


def test_conflicts_on_a_resource_are_ordered(wire):
    """A read after a write of the same file waits for it; another file does not."""
    plan = wire.planner(TOOLS).plan(
        wire.reply(
            ("write", {"path": "a", "text": "t"}),
            ("read", {"path": "a"}),
            ("read", {"path": "b"}),
        )
    )
    assert plan.edges == (("1", "2"),)


def test_an_id_that_occurs_twice_is_answered_once(wire):
    """The first call with an id runs, the second does not, and one answer speaks for both."""
    planner = wire.planner(TOOLS)
    reply = wire.reply(("fetch", {"url": "a"}, "same"), ("fetch", {"url": "b"}, "same"))
    plan = planner.plan(reply)
    assert plan["1"].problem is None
    assert "'same' was already that of call 1" in plan["2"].problem
    outcomes = {"1": Done("value"), "2": Failed(DagexecError(plan["2"].problem))}
    ((id_, text),) = wire.answers(planner.results(outcomes))
    assert id_ == "same"
    assert text.startswith("[call 1]\nvalue")
    assert "already that of call 1" in text


def test_a_cut_off_reply_is_not_run(wire):
    """No call of a reply that was cut off runs, and each is answered."""
    planner = wire.planner(TOOLS)
    reply = wire.reply(("search", {"query": "a"}), ("fetch", {"url": "b"}), cut=True)
    plan = planner.plan(wire.planner.response(reply))
    assert all("cut off" in call.problem for call in plan.calls)
    assert len(plan) == 2
    answers = wire.answers(planner.close_out())
    assert [id_ for id_, _ in answers] == ["call_1", "call_2"]
    assert all("cut off" in text and "fewer or shorter" in text for _, text in answers)


def test_numbers_and_values_go_on_across_turns(wire):
    """A later turn refers to earlier results by number or id, keeps their type."""
    planner = wire.planner(TOOLS)
    value = {"items": [{"url": "u"}], "$ref": "1"}
    planner.plan(wire.reply(("search", {"query": "a"}, "first")))
    planner.results({"1": Done(value)})
    calls = [
        ("merge", {"parts": [], "extra": {"$ref": "1"}}),
        ("fetch", {"url": {"$ref": "first.items[0].url"}}),
        ("fetch", {"url": {"$template": "$$${1.items} ${3}"}}),
        ("fetch", {"url": {"$ref": "1.nothing"}}),
        ("fetch", {"url": {"$ref": "1.nothing", "default": "d"}}),
    ]
    plan = planner.plan(wire.reply(*calls))
    assert [call.id for call in plan.calls] == ["2", "3", "4", "5", "6"]
    assert plan["2"].to_dict()["args"]["extra"]["$literal"] == value
    assert plan["4"].args["url"] == Template.from_parts(['$[{"url":"u"}] ', Ref("3")])
    assert "nothing at '.nothing'" in plan["5"].problem
    report = Executor(TOOLS, concurrency=0).run_sync(plan)
    assert report["2"].value[2] == value
    assert report["3"].value == "<u>"
    assert report["4"].value == '<$[{"url":"u"}] <u>>'
    assert report["6"].value == "<d>"


def test_references_to_what_failed_earlier(wire):
    """An earlier call without a value is a problem, unless the reference has a default."""
    planner = wire.planner(TOOLS)
    planner.plan(wire.reply(("search", {"query": "a"}), ("search", {"query": "b"})))
    planner.results({"1": Failed(ValueError("x"))})
    found = planner.plan(
        wire.reply(
            ("fetch", {"url": {"$ref": "1"}}),
            ("fetch", {"url": {"$ref": "2"}}),
            ("fetch", {"url": {"$ref": "1", "default": "d"}}),
        )
    )
    assert "Call 1 (search) is failed: no result" in found["3"].problem
    assert "Call 2 (search) has no result" in found["4"].problem
    assert found["5"].problem is None


def test_the_same_reply_again_keeps_its_numbers(wire):
    """A reply that is planned a second time before it was answered is the same turn."""
    planner = wire.planner(TOOLS)
    reply = wire.reply(("search", {"query": "a"}))
    assert planner.plan(reply) == planner.plan(reply)
    planner.close_out()
    assert [call.id for call in planner.plan(reply).calls] == ["2"]


def test_ids_may_repeat_in_each_turn_and_may_be_missing(wires):
    """Servers that count ids from zero in each turn, or send none, are answered all the same."""
    wire = wires["chat"]
    planner = wire.planner(TOOLS)
    for number in (1, 2):
        (call,) = planner.plan(wire.reply(("search", {"query": "a"}, "call_0"))).calls
        assert (call.id, call.problem) == (str(number), None)
        assert [id_ for id_, _ in wire.answers(planner.results({}))] == ["call_0"]
    calls = [("search", {"query": "a"}, None), ("search", {"query": "b"}, None)]
    assert [call.problem for call in planner.plan(wire.reply(*calls)).calls] == [None, None]
    assert len(planner.results({})) == 2


def test_without_references_nothing_is_read(wire):
    """References switched off: arguments stay what they are, results what the tools returned."""
    planner = wire.planner(TOOLS, references=False)
    extra = {"a": [{"$ref": "9"}], "$template": "${1}"}
    plan = planner.plan(wire.reply(("merge", {"parts": ["${1}"], "extra": extra})))
    assert plan.edges == ()
    report = Executor(TOOLS, concurrency=0).run_sync(plan)
    assert report["1"].value == [["${1}"], None, extra]
    ((_, text),) = wire.answers(planner.results(report))
    assert json.loads(text) == report["1"].value
    assert planner.instructions == ""
    assert "$ref" not in json.dumps(wire.schemas(planner))


def test_a_returned_reference_is_never_read(wire):
    """What a tool returned passes on untouched, in its own turn and in later ones."""
    poison = {"$ref": "1", "x": "${1}"}

    @tool(effect="read")
    async def poisoned() -> dict:
        """Return what looks like a reference."""
        return poison

    tools = [poisoned, merge]
    planner, executor = wire.planner(tools), Executor(tools, concurrency=0)
    argument = {"parts": [], "extra": {"$ref": "1"}}
    reply = wire.reply(("poisoned", {}), ("merge", argument))
    report = executor.run_sync(planner.plan(reply))
    assert report["2"].value == [[], None, poison]
    planner.results(report)
    report = executor.run_sync(planner.plan(wire.reply(("merge", argument))))
    assert report["3"].value == [[], None, poison]


def test_every_call_is_answered_once_on_every_way_out(wire):
    """Results, results again, close_out: the next request is valid in each case."""
    reply = wire.reply(("search", {"query": "a"}), ("nothing", {}), ("write", {"path": "a"}))
    planner = wire.planner(TOOLS)
    report = Executor(TOOLS, concurrency=0).run_sync(planner.plan(reply))
    results = planner.results(report)
    assert check_conversation(wire.api, wire.conversation((reply, results))) == []
    assert planner.results(report) == results
    assert planner.close_out() == []
    planner = wire.planner(TOOLS)
    planner.plan(reply)
    closed = planner.close_out()
    assert check_conversation(wire.api, wire.conversation((reply, closed))) == []
    texts = [text for _, text in wire.answers(closed)]
    assert "not run" in texts[0]
    assert "There is no tool" in texts[1]
    assert "text: missing" in texts[2]
    assert planner.close_out() == []


def test_a_reply_without_calls(wire):
    """No calls: an empty plan, and nothing to send back."""
    planner = wire.planner(TOOLS)
    plan = planner.plan(wire.reply())
    assert len(plan) == 0
    assert planner.results({}) == []
    assert planner.close_out() == []


def test_a_fresh_planner_knows_nothing_of_the_other(wire):
    """Two conversations do not see each other's calls."""
    planner = wire.planner(TOOLS)
    planner.plan(wire.reply(("search", {"query": "a"})))
    planner.results({"1": Done("secret")})
    other = planner.fresh()
    assert other.tools == planner.tools
    (call,) = other.plan(wire.reply(("fetch", {"url": {"$ref": "1"}}))).calls
    assert "refers to itself" in call.problem


def test_what_is_no_reply_is_refused(wire, wires):
    """Another API's reply, or anything else, is an error and not an empty plan."""
    planner = wire.planner(TOOLS)
    others = [other.reply(("search", {"query": "a"})) for other in wires.values() if other != wire]
    for odd in [None, 5, "text", {}, {"error": "x"}, object(), *others]:
        with pytest.raises(DagexecError, match=wire.planner.__name__):
            planner.plan(odd)


def test_each_planner_recognises_its_own_replies_only(wire, wires):
    """The command line finds the planner of a payload."""
    for other in wires.values():
        reply = other.reply(("search", {"query": "a"}))
        assert wire.planner.recognises(reply) is (other.api == wire.api)
        assert wire.planner.recognises(other.planner.response(reply)) is (other.api == wire.api)
    assert not any(wire.planner.recognises(odd) for odd in (None, {}, [], "x", 5, {"calls": []}))
