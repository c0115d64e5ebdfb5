"""An executor as an MCP server."""

from __future__ import annotations


class PlanServer:
    """Placeholder."""
