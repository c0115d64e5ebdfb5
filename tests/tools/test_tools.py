from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr
from typing_extensions import Doc

from dagexec._core.refs import Literal as Quoted
from dagexec._core.refs import Ref, Template
from dagexec._errors import ArgumentError, ToolDefinitionError
from dagexec._tools.context import CallContext
from dagexec._tools.tool import Effect, Tool, as_tools, tool

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(Enum):
    red = "red"
    blue = "blue"


class Filters(BaseModel):
    tags: list[str] = []
    limit: int


@dataclass
class Point:
    x: int
    y: int


@tool
def search(query: str, limit: int = 10) -> list[str]:
    """Search the web.

    Args:
        query: what to find
        limit: how many
    """
    return [query] * limit


@tool(effect="read")
async def fetch(url: str) -> str:
    """Fetch."""
    return url


class Service:
    def __init__(self, base: int = 0) -> None:
        self.base = base

    @tool(effect="pure")
    def add(self, a: int, /, b: int = 2) -> int:
        """Add.

        Args:
            a: the first
        """
        return self.base + a + b

    @staticmethod
    @tool
    def outer_static(a: int) -> int:
        return a

    @tool
    @staticmethod
    def inner_static(a: int) -> int:
        return a

    @classmethod
    @tool
    def outer_class(cls, a: int) -> tuple[type, int]:
        return cls, a

    @tool
    @classmethod
    def inner_class(cls, a: int) -> tuple[type, int]:
        return cls, a


def call(made: Tool[..., Any], **args: Any) -> Any:
    """Call a tool as the executor does."""
    return made.function(**made.validate(args))


def refused(text: str, made: Tool[..., Any], **args: Any) -> str:
    """Return the text with which arguments are refused."""
    with pytest.raises(ArgumentError) as caught:
        made.validate(args)
    assert text in str(caught.value)
    return str(caught.value)


# --- schema --------------------------------------------------------------------------------------


def test_schema_of_plain_function():
    """The schema holds types, texts and defaults, and nothing else."""
    assert search.name == "search"
    assert search.description == "Search the web."
    assert search.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to find"},
            "limit": {"type": "integer", "description": "how many", "default": 10},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "doc",
    [
        "Do it.\n\nArgs:\n    a: the a\n",
        "Do it.\n\nParameters\n----------\na : int\n    the a\n",
        "Do it.\n\n:param a: the a\n",
    ],
)
def test_docstring_styles(doc):
    """Google, NumPy and Sphinx docstrings describe parameters."""

    def f(a: int): ...

    f.__doc__ = doc
    made = tool(f)
    assert made.description == "Do it."
    assert made.parameters["properties"]["a"]["description"] == "the a"


def test_field_wins_over_docstring():
    """A Field's description, constraint and default come before the docstring's."""

    @tool
    def f(a: Annotated[int, Field(description="mine", ge=3)], b: int = Field(4, description="b!")):
        """F.

        Args:
            a: theirs
            b: theirs
        """
        return a, b

    properties = f.parameters["properties"]
    assert properties["a"] == {"type": "integer", "description": "mine", "minimum": 3}
    assert properties["b"] == {"type": "integer", "description": "b!", "default": 4}
    assert call(f, a=3) == (3, 4)
    refused("a: Input should be greater than or equal to 3 (got 2)", f, a=2)


def test_alias_is_the_public_name():
    """An alias names the argument for the model, the parameter for the function."""

    @tool
    def f(a: Annotated[int, Field(alias="from")]):
        return a

    assert list(f.parameters["properties"]) == ["from"]
    assert call(f, **{"from": "1"}) == 1
    refused("a: unknown argument", f, **{"from": 1, "a": 1})


def test_definitions_are_kept_without_titles():
    """Nested models keep their $defs; a field called title is no title."""

    class Book(BaseModel):
        title: str

    @tool
    def f(book: Book, title: str): ...

    assert f.parameters["$defs"] == {
        "Book": {
            "type": "object",
            "properties": {"title": {"type": "string"}},
            "required": ["title"],
        }
    }
    assert set(f.parameters["properties"]) == {"book", "title"}


def test_names_that_shadow_pydantic():
    """Names of a model's own attributes work, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @tool
        def f(  # noqa: PLR0917
            schema: int, model_config: int, json: int, _x: int, copy: int, p0: int, model_x: int
        ):
            return schema, model_config, json, _x, copy, p0, model_x

    names = ["schema", "model_config", "json", "_x", "copy", "p0", "model_x"]
    assert list(f.parameters["properties"]) == names
    assert call(f, **{name: str(i) for i, name in enumerate(names)}) == tuple(range(7))


def test_defaults_without_json_form():
    """A default that is no JSON is left out, never copied, and makes no noise."""
    lock = object()

    class Uncopied:
        def __deepcopy__(self, memo):
            raise AssertionError

    value = Uncopied()
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @tool
        def f(a: Any = lock, b: Uncopied = value, c: float = float("nan"), d: Path = Path("x")):
            return a, b, c, d

    assert "default" not in f.parameters["properties"]["a"]
    assert "default" not in f.parameters["properties"]["c"]
    assert f.parameters["properties"]["d"]["default"] == "x"
    assert call(f)[:2] == (lock, value)


def test_types_without_json_form_come_by_reference():
    """A type that no model can write is described, and checked by isinstance."""

    class Frame: ...

    @tool
    def f(frame: Frame):
        return frame

    assert "Frame object" in f.parameters["properties"]["frame"]["description"]
    frame = Frame()
    assert call(f, frame=frame) is frame
    refused("instance of", f, frame=3)


def test_local_class_in_string_annotation():
    """Names of the defining function are found although annotations are strings here."""

    class Local(BaseModel):
        x: int

    @tool
    def f(a: Local) -> int:
        return a.x

    assert call(f, a={"x": "3"}) == 3


def test_unresolvable_annotation():
    """The error names the parameter and the way out."""
    with pytest.raises(ToolDefinitionError, match=r"'amount' in 'f'.*TYPE_CHECKING.*from_schema"):

        @tool
        def f(amount: Decimal): ...


@pytest.mark.parametrize(
    "annotation",
    [
        "CallContext",
        "CallContext | None",
        CallContext,
        Optional[CallContext],  # noqa: UP045 - the old spelling is the case
        "Optional[CallContext]",
        "dagexec.CallContext",
    ],
    ids=repr,
)
def test_context_is_hidden(annotation):
    """The context's parameter is neither in the schema nor open to the model."""

    def f(a: int, ctx=None, **rest: Any):
        return a, ctx

    f.__annotations__["ctx"] = annotation
    made = tool(f)
    assert made.needs_context == "ctx"
    assert list(made.parameters["properties"]) == ["a"]
    refused("ctx: unknown argument", made, a=1, ctx=2)


def test_two_contexts_are_refused():
    """There is one context."""
    with pytest.raises(ToolDefinitionError, match="given once"):

        @tool
        def f(a: CallContext, b: CallContext): ...


# --- kinds of functions --------------------------------------------------------------------------


def test_call_keeps_the_signature():
    """A tool is called like its function, and looks like it."""
    assert search("a", limit=2) == ["a", "a"]
    assert asyncio.run(fetch("x")) == "x"
    assert str(inspect.signature(search)) == "(query: 'str', limit: 'int' = 10) -> 'list[str]'"
    assert search.__name__ == "search"
    with pytest.raises(AttributeError, match="nothing"):
        _ = search.nothing


def test_methods_bind():
    """On an instance a tool is bound, with the same schema and without self."""
    service = Service(10)
    assert list(Service.add.parameters["properties"]) == ["a", "b"]
    assert service.add.parameters is Service.add.parameters
    assert service.add(1) == 13
    assert call(service.add, a="1", b="5") == 16
    assert Service.add(service, 1) == 13
    with pytest.raises(ToolDefinitionError, match="is a method"):
        as_tools([Service.add])
    assert list(as_tools([service.add])) == ["add"]


def test_static_and_class_methods():
    """Both orders of the decorators work."""
    for made in (Service.outer_static, Service().inner_static, Service.inner_static):
        assert call(made, a="3") == 3
    for made in (Service.outer_class, Service.inner_class, Service().inner_class):
        (only,) = as_tools([made]).values()
        assert call(only, a="3") == (Service, 3)


def test_a_function_held_by_a_class_is_not_bound():
    """A tool without self that a class merely holds stays itself."""

    class Agent:
        helper = search

    assert Agent().helper is search


def test_partial():
    """What a partial has bound is neither in the schema nor open to the model."""

    def f(client: object, query: str, key: str = "k") -> tuple[Any, ...]:
        """F."""
        return client, query, key

    client = object()
    made = tool(functools.partial(f, client, key="secret"))
    assert made.name == "f"
    assert made.description == "F."
    assert list(made.parameters["properties"]) == ["query"]
    assert call(made, query="q") == (client, "q", "secret")
    refused("key: unknown argument", made, query="q", key="mine")


def test_callable_objects():
    """An object with __call__ is a tool named by its class."""

    class Doubler:
        """Doubles."""

        async def __call__(self, a: int) -> int:
            return 2 * a

    made = tool(Doubler())
    assert (made.name, made.description, made.runs) == ("Doubler", "Doubles.", "async")
    assert asyncio.run(call(made, a="4")) == 8


def test_positional_and_variadic_parameters():
    """Positional-only and * parameters get their values where they belong."""

    @tool
    def f(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: float):
        return a, b, rest, c, more

    assert call(f, a="1") == (1, 2, (), 3, {})
    assert call(f, a=1, rest=["4", 5], c=6, z="7") == (1, 2, (4, 5), 6, {"z": 7.0})
    assert f.parameters["properties"]["rest"]["type"] == "array"
    assert f.parameters["additionalProperties"] == {"type": "number"}
    refused("z: Input should be a valid number", f, a=1, z="q")


def test_wrapped_functions():
    """functools.wraps keeps the schema, the outer function decides how it runs."""

    def f(a: Colour): ...

    @functools.wraps(f)
    async def outer(*args, **kwargs):
        return kwargs

    made = tool(outer)
    assert made.runs == "async"
    assert asyncio.run(call(made, a="red")) == {"a": Colour.red}


def test_generators_are_refused():
    """A generator is no tool."""

    def f():
        yield 1

    async def g():
        yield 1

    for function in (f, g, functools.partial(f)):
        with pytest.raises(ToolDefinitionError, match="generator"):
            tool(function)


def test_what_cannot_be_a_tool():
    """Lambdas need a name, other things are no functions."""
    with pytest.raises(ToolDefinitionError, match="name="):
        tool(lambda: 1)
    assert tool(lambda: 1, name="one")() == 1
    with pytest.raises(ToolDefinitionError, match="made of a function"):
        tool(3)


@pytest.mark.parametrize("made", [search, fetch, Service.add])
def test_pickle_by_name(made):
    """A module's tool pickles as itself."""
    assert pickle.loads(pickle.dumps(made)) is made


def test_pickle_of_others():
    """A bound or renamed tool pickles with its instance and options."""
    bound = pickle.loads(pickle.dumps(Service(5).add))
    assert bound(1) == 8
    renamed = pickle.loads(pickle.dumps(tool(search, name="find", effect="read")))
    assert (renamed.name, renamed.effect, renamed.description) == (
        "find",
        "read",
        "Search the web.",
    )
    foreign = Tool.from_schema("f", {"properties": {"a": {"type": "integer"}}}, len)
    assert pickle.loads(pickle.dumps(foreign)).parameters == foreign.parameters


# --- validation ----------------------------------------------------------------------------------


def test_values_become_python_objects():
    """Models, dataclasses, enums and dates arrive as what they are."""

    @tool
    def f(m: Filters, p: Point, c: Colour, d: datetime, k: Literal["a", "b"]):
        return m, p, c, d, k

    assert call(
        f, m={"limit": "3"}, p={"x": 1, "y": "2"}, c="blue", d="2026-01-02T03:04:05Z", k="a"
    ) == (
        Filters(limit=3),
        Point(1, 2),
        Colour.blue,
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "a",
    )


def test_values_keep_identity():
    """What has the right type already is passed on, not copied."""

    @tool
    def f(a: Any, b: bytes, c: Filters, d: Point): ...

    args = {"a": object(), "b": bytes(10**6), "c": Filters(limit=1), "d": Point(1, 2)}
    ready = f.validate(args)
    assert all(ready[name] is value for name, value in args.items())


@given(
    st.fixed_dictionaries(
        {
            "i": st.integers(),
            "s": st.text(),
            "f": st.floats(allow_nan=False),
            "b": st.booleans(),
            "items": st.lists(st.integers()),
            "d": st.dictionaries(st.text(), st.integers()),
        },
        optional={"o": st.none() | st.text(), "n": st.integers()},
    )
)
def test_round_trip(args):
    """Values of the declared types come through unchanged, and only those that were given."""
    assert ROUND_TRIP.validate(args) == args
    assert ROUND_TRIP.problems({key: Quoted(value) for key, value in args.items()}) == []


@tool(name="round_trip")
def _round_trip(  # noqa: PLR0917
    i: int,
    s: str,
    f: float,
    b: bool,
    items: list[int],
    d: dict[str, int],
    o: str | None = "x",
    n: int = 1,
): ...


ROUND_TRIP = _round_trip


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_arguments_give_values_or_an_argument_error(args):
    """Whatever a model writes ends in values or in an ArgumentError of bounded length."""
    for made in (ROUND_TRIP, FOREIGN):
        text = ""
        try:
            made.validate(args)
        except ArgumentError as error:
            text = str(error)
        assert bool(text) == bool(made.problems(args))
        assert len(text) < 4000


FOREIGN = Tool.from_schema(
    "foreign",
    {"properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
    dict,
)


def test_error_text_for_the_model():
    """The text names the argument, the fault, the value and what is allowed."""
    text = refused("Wrong arguments for search: ", search, limit="many", qery=1)
    assert "limit: Input should be a valid integer" in text
    assert '(got "many")' in text
    assert "query: missing" in text
    assert "qery: unknown argument (did you mean query?)" in text
    assert text.endswith("Expected: query (string, required), limit (integer, default 10).")


def test_error_text_is_short():
    """A huge value is shown in part."""
    assert len(refused("limit", search, query="a", limit="x" * 10**7)) < 500
    assert len(refused("query", search, query=list(range(10**6)))) < 500
    refused("a very large integer", search, query=10**6000)


def test_arguments_that_are_no_object():
    """A list of arguments is refused by its kind."""
    with pytest.raises(ArgumentError, match="should be an object"):
        search.validate([1])
    assert search.problems(None)


def reachable(error: BaseException, secret: str) -> bool:
    """Say whether an error leads to a secret."""
    return secret in str(error) or error.__cause__ is not None or error.__context__ is not None


@pytest.mark.parametrize("value", [["hunter2"], {"hunter2": 1}, {"k": "hunter2"}])
def test_secrets_are_not_shown(value):
    """Neither the text nor the cause of an error holds a secret value."""

    class Login(BaseModel):
        password: SecretStr

    @tool(secret="token")
    def f(token: int = 77123, login: Login | None = None, other: int = 0): ...

    assert f.secret == ("token", "login")
    assert "default" not in f.parameters["properties"]["token"]
    for name in ("token", "login"):
        with pytest.raises(ArgumentError) as caught:
            f.validate({name: value})
        assert not reachable(caught.value, "hunter2")
        assert "77123" not in str(caught.value)
        assert "hunter2" not in str(f.problems({name: value}))
    foreign = Tool.from_schema(
        "g", {"properties": {"token": {"type": "integer"}}}, dict, secret=["token"]
    )
    with pytest.raises(ArgumentError) as caught:
        foreign.validate({"token": value})
    assert not reachable(caught.value, "hunter2")
    assert repr(f) == "<Tool f (write)>"


def test_problems_before_references_are_resolved():
    """Literal values are checked, references are not, names always are."""
    assert search.problems({"query": Ref("1")}) == []
    (only,) = search.problems({"query": Ref("1"), "limit": "x"})
    assert only.startswith("limit:")
    assert search.problems({"limit": Ref("1")}) == ["query: missing"]
    assert search.problems({"query": Template("{}", Ref("1")), "lim": Ref("2")}) == [
        "lim: unknown argument (did you mean limit?)"
    ]
    assert search.problems({"query": "a", "limit": Quoted("x")})
    assert search.problems({"query": Template("plain")}) == []
    assert search.problems({"query": ["a", {"b": Ref("1")}]}) == []


def test_a_validators_own_fault_is_an_argument_error():
    """An exception inside a validator costs the call, with no text of its own."""
    from pydantic import AfterValidator

    def broken(value: int) -> int:
        raise KeyError(value)

    @tool
    def f(a: Annotated[int, AfterValidator(broken)]): ...

    refused("could not be checked (KeyError)", f, a=3)


# --- options -------------------------------------------------------------------------------------


def test_effects():
    """Effects are ordered by freedom, and each property follows the table."""
    assert [str(effect) for effect in Effect] == ["pure", "read", "idempotent", "write"]
    assert search.effect is Effect.write
    table = [(e.shares, e.eager, e.retries, e.reruns) for e in Effect]
    assert table == [
        (True, True, True, True),
        (False, True, True, True),
        (False, False, True, True),
        (False, False, False, False),
    ]


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("effect", "delete", "pure, read, idempotent, write"),
        ("timeout", 0, "timeout=0"),
        ("timeout", -1.0, "timeout=-1.0"),
        ("timeout", float("nan"), "timeout=nan"),
        ("timeout", float("inf"), "timeout=inf"),
        ("timeout", True, "timeout=True"),
        ("timeout", "3", "timeout='3'"),
        ("runs", "fork", "async, thread, process"),
        ("name", "with space", "with space"),
        ("secret", "token", "query, limit"),
        ("secret", 3, "strings"),
        ("writes", "file:{path}", "query, limit"),
        ("writes", "file:{", "brace"),
        ("writes", "file:{query!r}", "placeholder"),
        ("reads", [""], "non-empty"),
        ("approval", "yes", "approval='yes'"),
        ("speed", 1, "no option 'speed'"),
    ],
)
def test_options_are_refused_by_name(option, value, text):
    """A wrong option is refused when the tool is made, with what is allowed."""
    with pytest.raises(ToolDefinitionError) as caught:
        tool(search, **{option: value})
    assert text in str(caught.value)


def test_options_are_kept():
    """Options arrive on the tool; one limit is a tuple of one."""
    limit = object()
    made = tool(effect="read", timeout=5, limits=limit, name="n", description="d", approval=True)(
        len
    )
    assert (made.effect, made.timeout, made.limits, made.approval) == ("read", 5.0, (limit,), True)
    assert (made.name, made.description, made.runs) == ("n", "d", "thread")
    assert tool(search) is search
    assert tool(search, runs="process").runs == "process"
    with pytest.raises(ToolDefinitionError, match="event loop"):
        tool(fetch, runs="thread")


def test_as_tools():
    """Functions are wrapped, order is kept, a second use of a name is refused."""

    def plain(a: int): ...

    assert list(as_tools([fetch, plain, search])) == ["fetch", "plain", "search"]
    with pytest.raises(ToolDefinitionError, match="two tools are called 'plain'"):
        as_tools([plain, plain])
    with pytest.raises(ToolDefinitionError, match="list of tools"):
        as_tools(search)
    with pytest.raises(ToolDefinitionError, match="made of a function"):
        as_tools(["search"])


# --- foreign schemas -----------------------------------------------------------------------------


def test_foreign_schema():
    """Arguments are checked against the schema and passed on as they are."""
    made = Tool.from_schema(
        "find",
        {
            "type": "object",
            "properties": {
                "q": {"type": "string"},
                "n": {"type": "integer", "default": 3, "minimum": 1},
                "o": {"enum": ["a", "b"]},
                "deep": {"$ref": "#/$defs/D"},
            },
            "required": ["q"],
            "additionalProperties": False,
            "$defs": {"D": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        },
        lambda **args: args,
        effect="read",
        description="Find.",
        arguments="enforce",
    )
    assert call(made, q="x") == {"q": "x"}
    refused("n: should be at least 1 (got 0)", made, q="x", n=0)
    refused('o: should be one of "a", "b" (got "c")', made, q="x", o="c")
    refused('deep.x: should be integer (got "y")', made, q="x", deep={"x": "y"})
    refused("q: missing", made, n=3)
    refused("p: unknown argument", made, q="x", p=3)
    assert made.problems({"q": Ref("1"), "n": "x", "deep": Ref("2")}) == [
        'n: should be integer (got "x")'
    ]
    assert made.problems({"n": Ref("1"), "zz": 1}) == ["q: missing", "zz: unknown argument"]
    assert made.problems({"q": Ref("1"), "deep": {"x": "y"}}) == [
        'deep.x: should be integer (got "y")'
    ]


def test_foreign_values_that_have_a_json_form():
    """A value of another call that is no JSON is passed on if its JSON form fits."""
    made = Tool.from_schema(
        "f", {"properties": {"t": {"type": "array"}, "w": {"type": "string"}}}, dict
    )
    args = {"t": (1, 2), "w": datetime(2026, 1, 1, tzinfo=UTC)}
    assert made.validate(args) == args


def test_drafts():
    """$schema chooses the draft, 2020-12 is the default."""
    tuple_4 = {"properties": {"a": {"items": [{"type": "integer"}]}}}
    draft_7 = {"$schema": "http://json-schema.org/draft-07/schema#", **tuple_4}
    refused("a[0]: should be integer", Tool.from_schema("f", draft_7, dict), a=["x"])
    prefix = {"properties": {"a": {"prefixItems": [{"type": "integer"}]}}}
    refused("a[0]: should be integer", Tool.from_schema("f", prefix, dict), a=["x"])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"properties": 3},
        {"properties": {"a": {"type": "nonsense"}}},
        {"properties": {"a": {"$ref": "https://example.com/schema.json"}}},
        {"properties": {"a": {"$ref": "#/$defs/none"}}},
    ],
)
def test_foreign_schemas_that_are_refused(schema):
    """What is no schema of an object, or points outside, is refused at once."""
    with pytest.raises(ToolDefinitionError, match="'f'"):
        Tool.from_schema("f", schema, dict)


def test_remote_references_are_never_fetched(monkeypatch):
    """A remote reference that hides behind an $id ends in an error, not on the network."""
    import socket
    import urllib.request

    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    schema = {"$id": "https://example.com/a", "properties": {"a": {"$ref": "b.json"}}}
    refused("not part of it", Tool.from_schema("f", schema, dict), a=1)


def test_no_parameters():
    """None and {} mean a tool without described parameters."""
    for schema in (None, {}):
        made = Tool.from_schema("f", schema, dict)
        assert made.parameters == {"type": "object", "properties": {}}
        assert made.validate({}) == {}


class _Other:
    class CallContext(BaseModel):
        """A user's own class, whose name is not reserved."""

        caller: str


@pytest.mark.parametrize(
    "annotation",
    [_Other.CallContext, "CallContext", "CallContext | None"],
    ids=["class", "text", "optional"],
)
def test_a_class_of_the_same_name_is_an_argument(annotation):
    """Only dagexec's own is the call's context, however the annotation is written."""
    CallContext = _Other.CallContext  # noqa: N806

    def f(a: int, ctx=None):
        return a, ctx, CallContext

    f.__annotations__["ctx"] = annotation
    made = tool(f)
    assert made.needs_context is None
    assert list(made.parameters["properties"]) == ["a", "ctx"]
    checked = made.validate({"a": 1, "ctx": {"caller": "x"}})
    assert checked["ctx"] == CallContext(caller="x")


def test_texts_in_annotations_are_descriptions():
    """A plain text and PEP 727's Doc; what a Field says comes first, the docstring last."""

    @tool
    def f(
        a: Annotated[str, "the a"],
        b: Annotated[int, Doc("the b")],
        c: Annotated[str, "plain", Field(description="field's")],
        d: Annotated[list[str] | None, 3, "the d"] = None,
        *rest: Annotated[int, "the rest"],
        e: str = "",
    ):
        """Do it.

        Args:
            a: hidden by the annotation
            e: the docstring's
        """

    texts = {name: part.get("description") for name, part in f.parameters["properties"].items()}
    assert texts == {
        "a": "the a", "b": "the b", "c": "field's", "d": "the d", "rest": "the rest",
        "e": "the docstring's",
    }  # fmt: skip


async def _later(arguments: dict[str, Any]) -> bool:
    return bool(arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"approval": lambda amount, to: True}, "the arguments, a dict: missing.*'to'"),
        ({"approval": lambda: True}, "the arguments, a dict: too many"),
        ({"approval": _later}, "async: it has to say at once"),
        ({"cost": lambda text, more: {"tokens": 1}}, "the arguments, a dict: missing"),
        ({"reconcile": lambda context: None}, "context and the arguments, a dict: too many"),
    ],
)
def test_an_option_that_is_a_function_has_to_take_what_it_is_given(options, said):
    """Said where the tool is made, not at the first call that would need it."""

    async def pay(amount: float) -> str:
        return f"paid {amount}"

    with pytest.raises(ToolDefinitionError, match=said):
        tool(**options)(pay)


def test_options_may_be_any_callable_that_fits():
    """Also those whose signature nobody knows."""

    async def pay(amount: float) -> str:
        return f"paid {amount}"

    for approval in (bool, lambda *given: True, {}.__contains__):
        assert tool(approval=approval)(pay).approval is approval
