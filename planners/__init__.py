"""Planners: from a model's reply to a plan, and from a report to what goes back to the model.

    from planners import solve
    from planners.openai import ChatPlanner, ResponsesPlanner
    from planners.anthropic import MessagesPlanner

`solve` leads a whole conversation. Importing this package imports no provider's SDK.
"""

from planners._base import Planner
from planners._dialogue import Dialogue
from planners._solution import Solution, Turn
from planners._solve import solve
from planners._stream import CallStream

__all__ = ["CallStream", "Dialogue", "Planner", "Solution", "Turn", "solve"]
