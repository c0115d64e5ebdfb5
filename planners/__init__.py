"""Planners: from a model's reply to a plan, and from a report to what goes back to the model.

One call id without an answer, and the provider refuses the next request with a 400. A planner
turns the model's reply into a plan, and the report into the messages you send back: each id is
answered once, whatever happened. `planner.tools` are the definitions for the SDK;
`planner.instructions`, for the system prompt, tell the model that its calls are numbered and that
an argument may refer to another call's result. The planners are `planners.openai.ChatPlanner` and
`.ResponsesPlanner`, `planners.anthropic.MessagesPlanner`,
`planners.llmcompiler.LLMCompilerPlanner` (plans as text) and `planners.programs.ProgramPlanner`
(Python). Their pages have the loop written out.

The examples talk to a scripted model from `dagexec.testing`, below the real SDK; with a key, use
`AsyncOpenAI()` and `AsyncAnthropic()` in its place.

# The whole loop

`solve` asks, runs the calls, feeds everything back in one batch, and again, until the model
answers. It works with `AsyncOpenAI`, `AsyncAnthropic` and everything that speaks their protocols,
over all APIs.

```python
import asyncio

from dagexec import Executor, tool
from dagexec.testing import ScriptedModel
from planners import Dialogue, solve
from planners.anthropic import MessagesPlanner


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


async def main():
    model = ["Let me look.", ("price", {"title": "Emma"})]
    client = ScriptedModel([model, "Emma costs 7.25.", "Yes."]).anthropic()  # AsyncAnthropic()
    settings = {"client": client, "model": "claude-sonnet-5-5", "executor": Executor([price])}
    planner = MessagesPlanner([price])
    answer = await solve("What does Emma cost?", planner=planner, stream=True, **settings)
    print(answer, answer.status, *answer.reports, sep="; ")

    saved = answer.conversation.to_json()  # days later, in another process:
    talk = Dialogue.from_json(saved, MessagesPlanner([price]))
    print(await solve("Is that cheap?", planner=talk.planner, conversation=talk, **settings))


asyncio.run(main())
```

```text
Emma costs 7.25.; done; 1 call: 1 done in 0.8 ms
Yes.
```

The answer is a string that also carries `.status`, `.reports`, `.conversation`, `.messages` and
`.response`. `Timeouts.turn` covers one reply and its calls, `Timeouts.workflow` the whole. When
one expires, or `max_turns` is reached, the answer is what the model had said so far, with all
reports, and `answer.ok` is False. Give `conversation=Dialogue(planner)` to keep the conversation
through an exception or a cancellation too: it is valid at any moment, with no tool call in it
unanswered. `before_turn` and `after_turn` are called with each turn, `limiter=` takes a
`dagexec.limits.Limiter` (the SDK's own retries are off then), `journal=` with `run_id=` records
the replies (see `dagexec.journal`), and other keywords go to the SDK, such as `tool_choice=` or
`max_tokens=`.

# Answers of a type, approvals, updates for a user interface

```python
import asyncio

from pydantic import BaseModel

from dagexec import Approve, Executor, tool
from dagexec.testing import ScriptedModel
from planners import solve
from planners.openai import ChatPlanner


class Receipt(BaseModel):
    book: str
    paid: float


@tool(approval=True)
async def pay(amount: float) -> str:
    return f"paid {amount}"


def approve(waiting):  # may be async; it may ask at the keyboard
    for outcome in waiting.values():
        print(outcome.question)
    return Approve()  # for all; or answers by id


async def main():
    replies = [[("pay", {"amount": 9.5})], '{"book": "Dune", "paid": 9.5}']
    answer = await solve(
        "Buy Dune.",
        planner=ChatPlanner([pay]),
        client=ScriptedModel(replies).openai(),  # AsyncOpenAI()
        model="gpt-5.5",
        executor=Executor([pay]),
        output_type=Receipt,
        approve=approve,
    )
    print(repr(answer.output))


asyncio.run(main())
```

```text
{'approve': 'pay', 'args': {'amount': 9.5}}
Receipt(book='Dune', paid=9.5)
```

`output_type=` uses the API's structured output; from a server that refuses it, the schema in the
system prompt is asked for alone. An answer that does not fit is sent back once,
with what is wrong, and `answer.status` is `wrong_output` if it still does not fit. `approve=`
needs no journal. `async with solving(…) as updates` is the same loop as an iterator of what
happens: pieces of text (`Said`), calls that begin and end (`CallBegan`, `CallEnded`).
`answer.usage` is the tokens of all replies, and `answer.reason` the provider's word for a bad
end.

A planner holds one conversation; `planner.fresh()` gives one for another. If something breaks
between the reply and its answers, `planner.close_out()` returns answers for the calls that have
none.

# While the model is still writing

`planner.stream()` takes the SDK's stream and yields each call as soon as its arguments are
complete. `pure` and `read` calls start then, `idempotent` and `write` calls when the reply is
complete.

```python
import asyncio

from dagexec import Executor, tool
from dagexec.testing import ScriptedModel
from planners.openai import ChatPlanner


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


async def main():
    calls = [("price", {"title": "Dune"}), ("price", {"title": "Emma"})]
    client = ScriptedModel([calls, "Done."]).openai()  # AsyncOpenAI()
    planner = ChatPlanner([price])
    messages = [{"role": "user", "content": "What do both cost?"}]
    arriving = planner.stream(
        await client.chat.completions.create(
            model="gpt-5.5", messages=messages, tools=planner.tools, stream=True
        )
    )
    report = await Executor([price]).run(arriving)
    messages += planner.reply(arriving.response) + planner.results(report)
    print(*(message["role"] for message in messages))


asyncio.run(main())
```

```text
user assistant tool tool
```

When the stream breaks off, `run` raises `DagexecError` with the partial `report`, and
`arriving.response` holds the calls that were complete. If the provider truncates the reply
(`max_tokens`), the unstarted calls never start and their answers say so.

# Numbers and placeholders

In a provider's calls the ids are the numbers 1, 2, 3 … in the order in which the model wrote them,
across the whole conversation; each result begins with its number. `references=False` switches
numbers, references and instructions off.

A call with `"<result of call 1>"`, `"TBD from previous step"` or `RESULT_FROM_STEP_2` for an
argument does not run on nonsense: it is answered with an error that shows how to refer to the
result, unless `placeholders=False`. On 2.9 million real strings it had no false positive (`python
-m tests.benchmarks.placeholders`). A text that is meant literally is written `{"$literal":
"..."}`.

Calls that a provider's sandbox makes from code are data: they take no references, and their answers
are plain JSON.

# For those who change it

`solve` leads a whole conversation. Importing this package imports no provider's SDK.

The way through the code: `_core` numbers the calls of a reply and checks them. A provider's package
(`openai`, `anthropic`, `llmcompiler`) reads and writes its API's forms and stands on `_core`. The
loop that asks the model, `_loop`, stands on `_core` too; `demo` stands on all of them. Each package
says which of its files to read first; the first of all is `_core/call_log`.
"""

from planners._core.planner import Planner
from planners._core.stream import CallStream
from planners._loop.dialogue import Dialogue
from planners._loop.solution import Solution, Turn
from planners._loop.solve import solve, solving
from planners._loop.updates import CallBegan, CallEnded, Said

__all__ = [
    "CallBegan",
    "CallEnded",
    "CallStream",
    "Dialogue",
    "Planner",
    "Said",
    "Solution",
    "Turn",
    "solve",
    "solving",
]
