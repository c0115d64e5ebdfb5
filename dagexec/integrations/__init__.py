"""What joins dagexec to other libraries; each module needs the extra of its name.

| module | |
|---|---|
| `dagexec.integrations.langgraph` | `DagToolNode` in place of `ToolNode`, `dag_agent` for `create_agent` |
| `dagexec.integrations.pydantic_ai` | `Dag`, a capability of an agent |
| `dagexec.integrations.openai_agents` | `dag_agent`, around an agent |
| `dagexec.integrations.adk` | `DagPlugin`, of a runner |
| `dagexec.integrations.strands` | `DagPlugin`, of an agent |
| `dagexec.integrations.smolagents` | `dag_agent`, around an agent |
| `dagexec.integrations.mcp` | tools of MCP servers, and an executor as a server |
| `dagexec.integrations.otel` | traces and metrics by OpenTelemetry |
| `dagexec.integrations.jupyter` | live pictures in notebooks |
| `dagexec.integrations.services` | a guide: FastAPI, gunicorn, Django, Flask, Celery, Kubernetes |
"""  # noqa: E501 - rows of tables

# Nothing is imported with the package: each module has a library of its own to import.
__all__: list[str] = []
