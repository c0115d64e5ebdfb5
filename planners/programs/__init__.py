"""Programs in the place of single calls: the model writes Python, its tools are the functions.

    from planners.programs import ProgramPlanner, with_programs

    planner = with_programs(ChatPlanner(tools))     # a tool `run_program` beside the tools
    planner = with_programs(ChatPlanner(tools), only=True)      # in the place of them
    planner = ProgramPlanner(tools)                 # a fenced block in any chat model's text
    solution = await solve("…", planner=planner, client=client, model="…", executor=executor)

The tools are shown to the model as Python stubs, in `planner.instructions`. What a program gives
comes back short: its value, what it printed, a line for each call that is not done. The whole value
is `_[3]` in the next program, where 3 is the number of the call, and the variables of earlier
programs are still there. A program that failed is answered with the line, the values and what is
done; sent again, corrected, it repeats nothing that is done.

Without `solve`, run a reply's plan in `planner.equipped(executor)`, which has `run_program`, too;
so also to `resume` a turn whose program waits for a person.

It stands on `planners._core`. This file has both planners; `_api` reads replies of any chat model,
`_blocks` finds the program in a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from dagexec import DagexecError, Executor, Tool
from dagexec.lowlevel import kind_of
from dagexec.programs import LANGUAGE, RUN_PROGRAM, Programs, is_answer, program_tool, stubs, told
from planners._core.api import Api
from planners._core.call_log import CallLog, RawCall
from planners._core.planner import Answer, Extra, Planner
from planners._core.stream import Assembler, Companion
from planners._core.widen import OPENAI, Dialect
from planners.programs._ahead import Ahead, BlockSource, JsonSource, Reader
from planners.programs._api import AnyAssembler, ProgramApi
from planners.programs._blocks import program_in

__all__ = ["ProgramPlanner", "with_programs"]

P = TypeVar("P", bound=Planner)

_DESCRIPTION = (
    "Run a Python program whose functions are the tools; the instructions say which and how. For"
    " loops, for calls that need one another's results, and to compute with results."
)
_BESIDE = """\
You can also call tools by programs: give `run_program` the text of one. {language}

{more}The functions:

{stubs}"""
_FENCED = """\
Solve the user's task with the functions below, by programs in Python. Write a program as one block:

```program
rows = search("…")
[row["name"] for row in rows]
```

You get its value and what it printed, and may write another one. When you know the answer, write \
it without such a block. Code that you only show goes into a block fenced as `python`, with text \
behind it: a reply that ends with a `python` block that calls a function is run, too. {language}

The functions:

{stubs}"""
_REFERENCES = """\
Other calls can refer to a program's value as {"$ref": "3.result"}, and to a variable that it left \
as {"$ref": "3.variables.name"}.

"""


def with_programs(planner: P, *, only: bool = False) -> P:
    """Return a planner for a new conversation whose model may write programs.

    `planner` is one for Chat, Responses or Messages; with `only`, the model gets `run_program` in
    the place of the single tools.

    Errors: DagexecError for a planner of texts, which has no tools, and where there is a tool
    called `run_program`.
    """
    if not planner.tools:
        msg = (
            f"with_programs() gives a model a tool, and {kind_of(planner)} offers none:"
            " take a planner for an API with tools, or ProgramPlanner(tools)"
        )
        raise DagexecError(msg)
    tools = planner.by_name
    more = _REFERENCES if not only and planner.references else ""
    text = _BESIDE.format(language=LANGUAGE, more=more, stubs=stubs(tools.values()))
    return planner.adding(_Programs(tools, text, alone=only))


class _Programs(Extra):
    """The tool `run_program` of one conversation."""

    def __init__(
        self,
        tools: Mapping[str, Tool[..., Any]],
        instructions: str,
        *,
        alone: bool,
        calls: CallLog | None = None,
    ) -> None:
        self.alone = alone
        self.instructions = instructions
        self._tools = tools
        self._calls = calls
        self._programs = Programs(self._past)
        # Finds the program in what is being written.
        self._reader: Callable[[], Reader] = JsonSource
        self.tool = self._made(Executor(tools.values()))

    def _made(self, executor: Executor) -> Tool[..., Any]:
        return program_tool(executor, self._programs, text=False, description=_DESCRIPTION)

    def _past(self) -> dict[int, Any]:
        """Return the values of the calls of the conversation that are done."""
        found: dict[int, Any] = {}
        for record in () if self._calls is None else self._calls.records:
            outcome = record.outcome
            if outcome is not None and outcome.status == "done" and not record.taken_back:
                found[record.number] = outcome.value
        return found

    def told(self, value: Any, number: int, limit: int | None) -> tuple[str, bool] | None:
        if not is_answer(value):
            return None
        shown = told(value, number) if limit is None else told(value, number, min(limit, 4_000))
        return shown, value.get("error") is None

    def equipped(self, executor: Executor) -> Executor:
        if self.tool.name in executor.tools:
            return executor
        missing = [name for name in self._tools if name not in executor.tools]
        if missing:
            raise DagexecError(
                f"the executor has no tool {', '.join(missing)}, which programs may call: make both"
                " from the same tools"
            )
        return executor.within(executor.timeouts, tools=[self._made(executor)])

    def reads_blocks(self) -> None:
        """Find programs in texts, where they are blocks."""
        self._reader = BlockSource

    def companion(self) -> Companion | None:
        return Ahead(self._programs, self._tools, self._reader)

    def of(self, calls: CallLog) -> _Programs:
        made = _Programs(self._tools, self.instructions, alone=self.alone, calls=calls)
        made._reader = self._reader
        return made


class ProgramPlanner(Planner):
    """Programs from the text of any chat model: no native tool calling is needed.

    `plan` takes the text of a reply, or a response of Chat, Responses or Messages. A block that is
    fenced as `program` is run; in a reply without one, blocks fenced as `python` that call one of
    the functions are, if the reply ends with one. Any other reply is the answer, whatever code it
    shows. `results` is one message from the user.

    Args:
        tools: tools, or functions that become tools.
        limit: characters of a value that the model sees; None for all of it.
        show_errors: as for every planner.

    Raises ToolDefinitionError and DagexecError for what cannot be.
    """

    dialect: ClassVar[Dialect] = OPENAI
    api: ClassVar[Api] = ProgramApi()

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]],
        *,
        limit: int | None = 4_000,
        show_errors: bool = True,
    ) -> None:
        """Make the instructions."""
        super().__init__(tools, references=False, limit=limit, show_errors=show_errors)
        functions = self._by_name
        text = _FENCED.format(language=LANGUAGE, stubs=stubs(functions.values()))
        extra = _Programs(functions, text, alone=True)
        extra.reads_blocks()
        self._functions = functions
        self._by_name = {extra.tool.name: extra.tool}
        self._definitions = []
        self._log = self._new_log()
        self._extra = extra.of(self._log)

    @classmethod
    def recognises(cls, payload: Any) -> bool:
        """Whether this is a text with a program."""
        return isinstance(payload, str) and program_in(payload, ()) is not None

    @classmethod
    def response(cls, payload: Any) -> Any:
        """Return the reply itself: there is no SDK behind it."""
        return payload

    def looks_like_calls(self, response: Any) -> bool:
        """Never: a text without a program is an answer."""
        del response
        return False

    def _read(self, response: Any) -> list[RawCall]:
        found = program_in(self.api.text(response), self._functions)
        if found is None:
            return []
        source, whole = found
        cut = None
        if not whole or self.api.ending(response) == "cut_off":
            cut = "Not run: the reply was cut off. Write the program again, a shorter one."
        return [RawCall("", RUN_PROGRAM, {"source": source}, "text", problem=cut)]

    def _assembler(self) -> Assembler:
        return AnyAssembler()

    def _definition(
        self, tool: Tool[..., Any], schema: dict[str, Any], *, strict: bool
    ) -> dict[str, Any]:
        del tool, schema, strict
        return {}

    def _answers(self, answers: Sequence[Answer]) -> list[Any]:
        return self.api.question("\n\n".join(answer.text for answer in answers))
