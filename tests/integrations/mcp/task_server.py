"""An MCP server of 2025-11-25 whose tools are called as tasks; no library behind it.

python task_server.py MARK FILE: what it is told of tasks is appended to FILE, a line each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

LOG = Path(sys.argv[2])
TASKS: dict[str, dict] = {}


def send(message):
    """Write a message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def state(name):
    """Describe a task."""
    task = TASKS[name]
    return {
        "taskId": name,
        "status": task["status"],
        "createdAt": "2025-11-25T00:00:00Z",
        "lastUpdatedAt": "2025-11-25T00:00:00Z",
        "ttl": None,
        "pollInterval": 20,
    }


def poll(name):
    """Move a task on."""
    task = TASKS[name]
    task["polls"] += 1
    if task["how"] == "done" and task["polls"] == 3:
        task["status"] = "completed"
    if task["how"] == "fail":
        task["status"] = "failed"
    if task["how"] == "ask":
        task["status"] = "input_required"


def result(id_, name):
    """Answer what became of a task, or ask first."""
    task = TASKS[name]
    if task["how"] == "ask":
        meta = {"io.modelcontextprotocol/related-task": {"taskId": name}}
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        params = {"message": "How many?", "requestedSchema": schema, "_meta": meta}
        task["waiting"] = id_
        send({"id": f"q-{name}", "method": "elicitation/create", "params": params})
        return
    content = [{"type": "text", "text": task["how"]}]
    send({"id": id_, "result": {"content": content, "isError": task["how"] == "fail"}})


def answer(message):
    """Answer a message."""
    id_, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if method == "initialize":
        capabilities = {"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}
        info = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "serverInfo": {"name": "tasks", "version": "1"},
        }
        send({"id": id_, "result": info})
    elif method == "tools/list":
        schema = {"type": "object", "properties": {"how": {"type": "string"}}}
        tool = {"name": "long", "inputSchema": schema, "execution": {"taskSupport": "required"}}
        send({"id": id_, "result": {"tools": [tool]}})
    elif method == "tools/call":
        if "task" not in params:
            send({"id": id_, "error": {"code": -32601, "message": "only as a task"}})
            return
        name = f"task-{len(TASKS)}"
        TASKS[name] = {"status": "working", "polls": 0, "how": params["arguments"]["how"]}
        send({"id": id_, "result": {"task": state(name)}})
    elif method == "tasks/get":
        poll(params["taskId"])
        send({"id": id_, "result": state(params["taskId"])})
    elif method == "tasks/result":
        result(id_, params["taskId"])
    elif method == "tasks/cancel":
        with LOG.open("a") as file:
            file.write(f"cancelled {TASKS[params['taskId']]['how']}\n")
        send({"id": id_, "result": {**state(params["taskId"]), "status": "cancelled"}})
    elif method is None and str(id_).startswith("q-"):
        task = TASKS[id_[2:]]
        text = json.dumps(message["result"].get("content") or message["result"]["action"])
        content = [{"type": "text", "text": text}]
        send({"id": task["waiting"], "result": {"content": content}})


for line in sys.stdin:
    answer(json.loads(line))
