"""Planners: from a model's reply to a plan, and from a report to what goes back to the model.

    from planners.openai import ChatPlanner, ResponsesPlanner
    from planners.anthropic import MessagesPlanner

Importing this package imports no provider's SDK.
"""

from planners._base import Planner

__all__ = ["Planner"]
