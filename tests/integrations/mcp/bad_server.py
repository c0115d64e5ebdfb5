"""An MCP server that behaves badly, each tool in its own way; no library between it and the pipe.

python bad_server.py MARK [MODE...]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

MARK, *MODES = sys.argv[1:]
OUT = sys.stdout.buffer
SLEEPER = [sys.executable, "-c", "import time; time.sleep(1000)", MARK]
READ, IDEMPOTENT = {"readOnlyHint": True}, {"idempotentHint": True}
TOOLS = {
    "add": READ,
    "echo": IDEMPOTENT,
    "fail": READ,
    "noise": READ,  # stderr before the answer
    "flood": READ,  # stderr without end
    "hang": READ,
    "deaf": READ,  # stops reading its stdin, for good
    "die": None,  # ends in the middle of a call
    "die_held": None,  # the same, and a grandchild holds its stdout
    "mute": None,  # closes stdout and lives on
    "garbage": READ,  # lines that are no messages
    "not_utf8": READ,
    "half": READ,  # half a line, then nothing
    "long": READ,  # an answer of so many bytes in one line
    "long_garbage": READ,
    "wrong_id": READ,  # answers only somebody else
    "wrong_id_first": READ,
    "twice": READ,
    "many_notes": READ,
    "pid": READ,
    "cancelled": READ,  # the requests that it was told to cancel
}
cancelled = []


def send(message):
    """Write a message."""
    OUT.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    OUT.flush()


def result(id_, value):
    """Answer a call."""
    content = [{"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}]
    send({"id": id_, "result": {"content": content}})


def grandchild(**options):
    """Start what does not end."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    subprocess.Popen(SLEEPER, stdin=subprocess.DEVNULL, **options)


def sleep_for_ever():
    """Do nothing more."""
    while True:
        time.sleep(1)


def call(id_, name, args, meta):
    """Behave badly."""
    size = int(args.get("size", 0))
    if name == "add":
        result(id_, str(args["a"] + args["b"]))
    elif name == "echo":
        result(id_, f"{len(args['text'])}")
    elif name == "fail":
        content = [{"type": "text", "text": "no such city"}]
        send({"id": id_, "result": {"content": content, "isError": True}})
    elif name == "noise":
        sys.stderr.write("e" * size)
        sys.stderr.flush()
        result(id_, "ok")
    elif name == "flood":
        while True:
            sys.stderr.write("e" * 65536)
    elif name == "deaf":
        result(id_, "ok")
        sleep_for_ever()
    elif name == "die":
        os._exit(3)
    elif name == "die_held":
        grandchild(stdout=None)
        sys.stderr.write("out of memory")
        sys.stderr.flush()
        os._exit(3)
    elif name == "mute":
        os.close(1)
        sleep_for_ever()
    elif name == "garbage":
        OUT.write(b"this is no json\n" * size)
        result(id_, "ok")
    elif name == "not_utf8":
        OUT.write(b"\xff\xfe\xfa\n")
        result(id_, "ok")
    elif name == "half":
        OUT.write(b'{"jsonrpc": "2.0", "id"')
        OUT.flush()
    elif name == "long":
        result(id_, "x" * size)
    elif name == "long_garbage":
        OUT.write(b"x" * size + b"\n")
        OUT.flush()
    elif name == "wrong_id":
        result(987654, "not for you")
    elif name == "wrong_id_first":
        result(987654, "not for you")
        result(id_, "yours")
    elif name == "twice":
        result(id_, "first")
        result(id_, "second")
    elif name == "many_notes":
        for n in range(size):
            note = {"progressToken": meta.get("progressToken"), "progress": n + 1, "total": size}
            send({"method": "notifications/progress", "params": note})
        result(id_, "ok")
    elif name == "pid":
        result(id_, str(os.getpid()))
    elif name == "cancelled":
        result(id_, json.dumps(cancelled))
    # hang, half, wrong_id and long_garbage: no answer


def schema(name):
    """Describe the arguments."""
    kinds = {"add": {"a": "integer", "b": "integer"}, "echo": {"text": "string"}}
    properties = {key: {"type": kind} for key, kind in kinds.get(name, {"size": "integer"}).items()}
    return {"type": "object", "properties": properties}


def answer(message):
    """Answer a message, or not."""
    id_, method, params = message.get("id"), message["method"], message.get("params", {})
    if method == "initialize":
        if "mute-start" in MODES:
            return
        info = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "bad", "version": "1"},
        }
        send({"id": id_, "result": info})
    elif method == "tools/list":
        tools = [{"name": name, "inputSchema": schema(name)} for name in TOOLS]
        for tool in tools:
            if TOOLS[tool["name"]]:
                tool["annotations"] = TOOLS[tool["name"]]
        send({"id": id_, "result": {"tools": tools}})
        if "idle-death" in MODES:  # not before it is connected to, on the slowest machine
            threading.Timer(0.5, os._exit, (9,)).start()
    elif method == "tools/call":
        call(id_, params["name"], params.get("arguments") or {}, params.get("_meta") or {})
    elif method == "notifications/cancelled":
        cancelled.append(params["requestId"])
    # anything else, `ping` and `server/discover` among it, gets no answer


def main():
    """Serve."""
    if "stubborn" in MODES:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "grandchild" in MODES:
        grandchild()
    if "setsid" in MODES:
        grandchild(start_new_session=True)
    if "noisy-start" in MODES:
        sys.stderr.write("e" * 2_000_000)
    if "die-start" in MODES:
        sys.exit("cannot read the configuration")
    for line in sys.stdin.buffer:
        answer(json.loads(line))
    if "stubborn" in MODES:
        sleep_for_ever()


main()
