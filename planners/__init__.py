"""Planners: from a model's reply to a plan, and from a report to what goes back to the model.

    from planners import solve
    from planners.openai import ChatPlanner, ResponsesPlanner
    from planners.anthropic import MessagesPlanner

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
from planners._loop.solve import solve

__all__ = ["CallStream", "Dialogue", "Planner", "Solution", "Turn", "solve"]
