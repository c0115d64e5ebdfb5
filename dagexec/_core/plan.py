"""Plans: the calls of a model's answer as a graph of dependencies.

A plan is a value. It validates itself when it is built, all problems at once, and never changes.
networkx lives here and nowhere else: it finds cycles and layers and is what `Plan.graph` gives to
users. Running a plan whose calls only refer to earlier ones needs none of it, so it is loaded when
it is first used: it takes longer to import than all the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast, final

from dagexec._core.misgiven import NoCall, is_file_name, no_plan
from dagexec._core.names import Names, cut
from dagexec._core.refs import MISSING, Ref, decode, encode, holds_each, references
from dagexec._core.secrets import shown
from dagexec._core.wrong_names import explained
from dagexec._errors import BadReference, DagexecError, PlanError, Problem
from dagexec._pictures.diagram import Diagram
from dagexec._pictures.glyphs import json_text, listed
from dagexec._pictures.graph import Node
from dagexec._pictures.mime import ShowsItself

# Ids that a message about a wrong one lists.
NAMED: Final = 10

if TYPE_CHECKING:
    import networkx as nx

    from dagexec._core.plan_file import CallFile


@explained
@final
@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool: a node of the graph.

    `args` are the tool's arguments by name; dicts in the JSON form of a reference become `Ref`,
    `Template` and literals when the call is built. `after` names calls that must be done before
    this one starts, without using their values. `ordered` names calls that must only have ended,
    whatever became of them: the order of two calls that touch the same resource.

    `problem` says why a call cannot run as a model wrote it. Such a call stays in the plan, fails
    at once with this text and costs its dependants; everything else runs. `line` is the line of the
    program that makes the call.

    Errors: PlanError where id, tool, args or a reference in them cannot be read.
    """

    id: str
    tool: str
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    after: tuple[str, ...] = ()
    ordered: tuple[str, ...] = ()
    problem: str | None = None
    # The id that the provider gave it, where a planner read it; for traces, and in no JSON form.
    provider_id: str | None = field(default=None, repr=False, compare=False, kw_only=True)
    # None for a call of a plan. It is not in the JSON form.
    line: int | None = field(default=None, kw_only=True, repr=False, compare=False)
    # Found once: planning, scheduling and resolving all need them. The references in `args`; the
    # calls that must be done first, each once, in the order in which they are named; and those
    # that must only have ended first: references with a default, and `ordered`.
    refs: tuple[Ref, ...] = field(default=(), init=False, repr=False, compare=False)
    needs: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)
    waits: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)
    # Whether it runs once for each item of a list: it has `Each` among its arguments.
    each: bool = field(default=False, init=False, repr=False, compare=False)

    if TYPE_CHECKING:  # a tool is taken where its name is, a call where its id is

        def __init__(  # noqa: PLR0917 - the fields
            self,
            id: str,
            tool: str | Callable[..., Any],
            args: Mapping[str, Any] = ...,
            after: Iterable[str | Call] = (),
            ordered: Iterable[str | Call] = (),
            problem: str | None = None,
            *,
            provider_id: str | None = None,
            line: int | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check and decode; a call is never half valid."""
        _check_fields(self)
        change = object.__setattr__
        if self.after or type(self.after) is not tuple:
            change(self, "after", _ids(self, "after", self.after))
        if self.ordered or type(self.ordered) is not tuple:
            change(self, "ordered", _ids(self, "ordered", self.ordered))
        refs: tuple[Ref, ...] = ()
        if self.args:
            try:
                args = {name: decode(value) for name, value in self.args.items()}
            except BadReference as error:
                raise PlanError([Problem("bad_reference", self.id, str(error))]) from None
            change(self, "args", args)
            refs = tuple(references(args))
            change(self, "each", holds_each(args))
        if refs or self.after or self.ordered:
            change(self, "refs", refs)
            if self.problem is None:
                hard = [ref.call for ref in refs if ref.default is MISSING]
                soft = [ref.call for ref in refs if ref.default is not MISSING]
                needs = dict.fromkeys((*hard, *self.after))
                change(self, "needs", tuple(needs))
                behind = dict.fromkeys((*soft, *self.ordered))
                change(self, "waits", tuple(call for call in behind if call not in needs))

    def __repr__(self) -> str:
        """Return the fields, without the values that a tool of this name declares secret."""
        args = shown(self.tool, self.args)
        return (
            f"Call(id={self.id!r}, tool={self.tool!r}, args={args!r}, after={self.after!r},"
            f" ordered={self.ordered!r}, problem={self.problem!r})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; what is empty is left out. It runs again, so it has all values."""
        body: dict[str, Any] = {"id": self.id, "tool": self.tool, "args": encode(dict(self.args))}
        if self.after:
            body["after"] = list(self.after)
        if self.ordered:
            body["ordered"] = list(self.ordered)
        if self.problem is not None:
            body["problem"] = self.problem
        return body

    @property
    def value(self) -> Any:
        """What this call returns, as an argument of another: a `Ref` to it.

        For type checkers it is of any type, so that it fits every parameter of `Tool.call`.
        """
        return Ref(self.id)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Call:
        """Read the JSON form; raise PlanError where it does not fit."""
        from dagexec._core.plan_file import read_call

        return _from_file(read_call(body))


def _check_fields(call: Call) -> None:
    # Plans come from files and callers without a type checker, so the types are checked.
    tool: object = call.tool
    if callable(tool):
        # A `Tool` has a name, a function that becomes one as well.
        name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
        object.__setattr__(call, "tool", name)
    checks: tuple[tuple[object, type, str], ...] = (
        (call.id, str, "its id"),
        (call.tool, str, "the name of its tool"),
    )
    for value, kind, what in checks:
        if not isinstance(value, kind) or not value:
            name = call.id if isinstance(cast("object", call.id), str) else None
            msg = f"{what} must be a non-empty string, not {value!r:.80}: write {_FORM}"
            raise PlanError([Problem("bad_call", name, msg)])
    args: object = call.args
    if not isinstance(args, Mapping) or not all(isinstance(name, str) for name in args):
        msg = (
            f"its args must be an object with a name for each argument, not {args!r:.80}: write"
            f" {_FORM}"
        )
        raise PlanError([Problem("bad_call", call.id, msg)])
    for name, value in call.args.items():
        if isinstance(value, Call):
            msg = (
                f"its argument {name!r} is a call: write Ref({value.id!r}) for what that returns,"
                " and put the call into the plan"
            )
            raise PlanError([Problem("bad_call", call.id, msg)])


_FORM: Final = 'Call("a", "price", {"title": "Dune"})'


def _ids(call: Call, what: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"{what} takes the ids of calls, as {what}=({value!r},)"
        raise PlanError([Problem("bad_call", call.id, msg)])
    ids = tuple(_id_of(each) for each in cast("Iterable[Any]", value))
    if not all(isinstance(item, str) for item in ids):
        msg = f"{what} takes the ids of calls, which are strings, not {ids!r}"
        raise PlanError([Problem("bad_call", call.id, msg)])
    return ids


def _id_of(given: Any) -> Any:
    if isinstance(given, Call):
        return given.id
    return given.call if isinstance(given, Ref) and not given.path else given


def _from_file(read: CallFile) -> Call:
    return Call(read.id, read.tool, read.args, tuple(read.after), tuple(read.ordered), read.problem)


@explained
@final
class Plan(ShowsItself):
    """A validated graph of calls, in the order in which the model wrote them.

    Iterating gives the calls, `plan["id"]` gives one. Raises one PlanError that names every
    problem.
    """

    calls: tuple[Call, ...]

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        """Check the calls together; they may stand in any order.

        Raises PlanError for a fault among them, DagexecError for what are no calls.
        """
        given: object = calls
        listed = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
        held = tuple(calls) if listed else ()
        if not listed or not all(isinstance(cast("object", call), Call) for call in held):
            raise DagexecError(no_plan(held if listed else calls, Call))
        self.calls = held
        found = faults(self.calls)
        if found:
            raise PlanError(found)
        self._by_id = {call.id: call for call in self.calls}

    def __getitem__(self, key: str) -> Call:
        """Return the call with this id."""
        call = self._by_id.get(key)
        if call is None:
            raise NoCall(key, Names(self._by_id, NAMED))
        return call

    def __iter__(self) -> Iterator[Call]:
        """Iterate over the calls, in plan order."""
        return iter(self.calls)

    def __contains__(self, key: object) -> bool:
        """Whether a call has this id."""
        return key in self._by_id

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self.calls)

    def __eq__(self, other: object) -> bool:
        """Plans with equal calls in the same order are equal."""
        return self.calls == other.calls if isinstance(other, Plan) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the size and the first ids."""
        shown = ", ".join(call.id for call in self.calls[:6]) + (", …" if len(self) > 6 else "")  # noqa: PLR2004
        return f"<Plan of {len(self)} calls: {shown}>"

    @staticmethod
    def problems(calls: Iterable[Call]) -> tuple[Problem, ...]:
        """Return everything that is wrong with these calls together, without raising."""
        return tuple(faults(tuple(calls)))

    @cached_property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs (from, to): `to` starts after `from`; by `to` in plan order."""
        return tuple(
            (source, call.id) for call in self.calls for source in (*call.needs, *call.waits)
        )

    @cached_property
    def graph(self) -> nx.DiGraph[str]:
        """A networkx graph; nodes carry `call`, edges `value`: False where only order counts."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        for call in self.calls:
            graph.add_node(call.id, call=call)
        for call in self.calls:
            used = {ref.call for ref in call.refs}
            for source in (*call.needs, *call.waits):
                graph.add_edge(source, call.id, value=source in used)
        return graph

    @cached_property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """The calls by depth: each layer depends on earlier ones only; in plan order inside."""
        depths: dict[str, int] = {}
        behind: dict[str, list[str]] = {call.id: [] for call in self.calls}
        missing = dict.fromkeys(behind, 0)
        for source, target in self.edges:
            behind[source].append(target)
            missing[target] += 1
        # networkx does the same, and costs a picture more to import than to draw.
        free = [name for name, count in missing.items() if not count]
        for name in free:
            depths.setdefault(name, 0)
            for target in behind[name]:
                depths[target] = max(depths.get(target, 0), depths[name] + 1)
                missing[target] -= 1
                if not missing[target]:
                    free.append(target)
        layers: list[list[str]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
        for call in self.calls:
            layers[depths[call.id]].append(call.id)
        return tuple(tuple(layer) for layer in layers)

    @property
    def diagram(self) -> Diagram:
        """The graph as a picture: text, mermaid, SVG or JSON."""
        nodes = [Node(call.id, call.tool, "plan") for call in self.calls]
        return Diagram(tuple(nodes), self.edges, self.layers)

    def _forms(self) -> tuple[Callable[..., str], Callable[[], str]]:
        return self.diagram.to_svg, lambda: f"{self!r}\n{self.diagram}"

    def to_mermaid(self) -> str:
        """Return the graph as a mermaid flowchart."""
        return self.diagram.to_mermaid()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"calls": [call.to_dict() for call in self.calls]}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the plan as JSON text; raise TypeError for an argument that JSON cannot hold.

        It can be read and run, so it holds secret arguments too; a report's JSON does not.
        """
        return json_text(self.to_dict(), indent)

    @classmethod
    def from_dict(cls, body: Any) -> Plan:
        """Read the JSON form, or a bare list of calls; raise PlanError with every problem."""
        from dagexec._core.plan_file import read_plan

        read = read_plan({"calls": body} if isinstance(body, list) else body)
        calls: list[Call] = []
        problems: list[Problem] = []
        for item in read.calls:
            try:
                calls.append(_from_file(item))
            except PlanError as error:
                problems.extend(error.problems)
                # Stands in for the unreadable call, so that its other problems show too.
                calls.append(Call(item.id, item.tool, problem="unreadable"))
        problems.extend(faults(tuple(calls)))
        if problems:
            raise PlanError(problems)
        return cls(calls)

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read JSON text; raise PlanError with every problem."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            hint = "; this is the name of a file: give its text" if is_file_name(text) else ""
            msg = f"the plan is not JSON: {error}{hint}"
            raise PlanError([Problem("bad_call", None, msg)]) from None
        return cls.from_dict(body)

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of the JSON form."""
        from dagexec._core.plan_file import PlanFile

        return PlanFile.model_json_schema()


def as_ran(arrived: Iterable[Call]) -> Plan:
    """Return the calls of a run as a plan; what was wrong with one is its problem, its outcome."""
    calls = tuple(arrived)
    problems = {
        name: problem.message
        for problem in faults(calls)
        for name in (str(problem.call), *problem.also)
    }
    if not problems:
        return Plan(calls)
    return Plan(
        replace(call, problem=problems[call.id]) if call.id in problems else call for call in calls
    )


def faults(calls: tuple[Call, ...]) -> list[Problem]:
    """Return everything that is wrong with these calls together, in plan order."""
    known: dict[str, int] = {}
    problems: list[Problem] = []
    for index, call in enumerate(calls):
        if call.id in known:
            msg = "another call has the same id; give each call its own"
            problems.append(Problem("duplicate_id", call.id, msg))
        known.setdefault(call.id, index)
    forward = False
    names = Names(known, NAMED)
    for index, call in enumerate(calls):
        for source in (*call.needs, *call.waits):
            if source not in known or source == call.id:
                problems.append(unknown_reference(call.id, source, names))
            elif known[source] > index:
                forward = True
    if forward:  # without a reference to a later call there can be no cycle
        problems.extend(cycles(calls))
    return problems


def unknown_reference(call: str, source: str, names: Names) -> Problem:
    """Return the problem of a reference to a call that is not there, or to the call itself."""
    if source == call:
        msg = "it refers to itself; refer to another call, or pass a value"
        return Problem("self_reference", call, msg)
    try:
        parsed = Ref.parse(source)
    except BadReference:
        parsed = None
    if parsed is not None and parsed.path and parsed.call in names:
        msg = (
            f"it refers to {cut(source)!r}, and there is no such call: the path is an argument of"
            f" its own, {parsed!r}"
        )
        return Problem("unknown_reference", call, msg)
    close = names.near(source)
    hint = f"; did you mean {close!r}?" if close else "."
    msg = f"it refers to {cut(source)!r}, and there is no such call{hint} There are: {names.shown}"
    return Problem("unknown_reference", call, msg)


def cycles(calls: Iterable[Call]) -> list[Problem]:
    """Return a problem for each group of calls that wait for each other, with one path as proof."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    order: dict[str, int] = {}
    for call in calls:
        order.setdefault(call.id, len(order))
        graph.add_node(call.id)
        graph.add_edges_from((source, call.id) for source in (*call.needs, *call.waits))
    found: list[tuple[int, Problem]] = []
    groups = cast("Iterable[set[str]]", nx.strongly_connected_components(graph))
    for group in groups:
        if len(group) == 1:
            continue
        members = sorted((name for name in group if name in order), key=order.__getitem__)
        path = listed(tuple(map(cut, shortest_cycle(graph.adj, members[0], group))))
        msg = f"it is in a cycle, so none of its calls can be first: {path}; remove one reference"
        problem = Problem("cycle", members[0], msg, also=tuple(members[1:]))
        found.append((order[members[0]], problem))
    return [problem for _, problem in sorted(found, key=lambda pair: pair[0])]


def shortest_cycle(
    edges: Mapping[str, Iterable[str]], start: str, group: Collection[str]
) -> list[str]:
    """Return the shortest way from a call of a cycle back to it, inside the group that waits."""
    came: dict[str, str] = {}
    queue = [start]
    for name in queue:
        for target in edges[name]:
            if target == start:
                way = [start]
                while name != start:
                    way.append(name)
                    name = came[name]  # noqa: PLW2901
                return [start, *reversed(way)]
            if target in group and target not in came:
                came[target] = name
                queue.append(target)
    raise AssertionError(start)  # pragma: no cover - in such a group a way leads back to each
