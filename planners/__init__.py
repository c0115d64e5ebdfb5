"""Planners: from a model's reply to a plan, and from a report to what goes back to the model.

    from planners import solve
    from planners.openai import ChatPlanner, ResponsesPlanner
    from planners.anthropic import MessagesPlanner

`solve` leads a whole conversation. Importing this package imports no provider's SDK.
"""

from planners._core.planner import Planner
from planners._core.stream import CallStream
from planners._loop.dialogue import Dialogue
from planners._loop.solution import Solution, Turn
from planners._loop.solve import solve

__all__ = ["CallStream", "Dialogue", "Planner", "Solution", "Turn", "solve"]
