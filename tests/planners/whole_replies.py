"""Good replies of the three protocols as whole bodies, and the events that they are streamed in."""

from __future__ import annotations

import copy
import json

TEXTS = ["", "a", "Rome \U0001f600", '{"}', "é\n\\", "x" * 30, "null", "[call 1]"]
NUMBERS = [0, -1, 2.5, 1e300, 2**70, True, None]
ODD = {"google": {"thought_signature": "sig"}, "nothing": None}
CODE = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}
PROGRAM = {"type": "program", "caller_id": "p"}


def value(rng, depth=0):
    """Return a value of any JSON kind."""
    kind = rng.randrange(6 if depth < 3 else 2)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 3:
        return {f"k{at}": value(rng, depth + 1) for at in range(rng.randrange(3))}
    if kind == 4:
        return {"$ref": str(rng.randrange(1, 5))}
    return {"$literal": {"$ref": "1"}}


def arguments(rng):
    """Return the arguments of a call."""
    if rng.random() < 0.15:
        return {}
    found = {"what": value(rng)}
    if rng.random() < 0.5:
        found["many"] = value(rng)
    return found


def names_and_ids(rng):
    """Return (id, name) for each call of a reply; ids may be odd, and one may come twice."""
    found = []
    for at in range(rng.choice([0, 1, 1, 2, 3, 4])):
        id_ = rng.choice([f"call_{at}", f"toolu_{at}", f"{at}", "x" * 30 + str(at)])
        found.append((id_, rng.choice(["look", "look", "change", "nobody"])))
    return found


def pieces(rng, text):
    """Return a text cut into pieces."""
    found = []
    size = rng.choice([1, 3, 8, 200])
    while text:
        found.append(text[:size])
        text = text[size:]
    return found


def _json(rng, args):
    if not args and rng.random() < 0.3:
        return ""
    return json.dumps(args, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))


# -------------------------------------------------------------------------------------------- chat


def chat(rng):
    """Return a `chat.completion`."""
    message = {"role": "assistant", "content": rng.choice([None, "Let me see.", *TEXTS])}
    if rng.random() < 0.3:
        message["reasoning_content"] = rng.choice(["Hm. Well.", "\U0001f600"])
    if rng.random() < 0.3:
        kinds = ["reasoning.text", "reasoning.encrypted"]
        message["reasoning_details"] = [
            {"type": kinds[at], "index": at, ("text", "data")[at]: "Long thoughts.", "id": f"r{at}"}
            for at in range(rng.choice([1, 2]))
        ]
    if rng.random() < 0.2:
        message["x_odd"] = {"a": [1], "b": {"c": None}}
    calls = []
    for id_, name in names_and_ids(rng):
        call = {"id": id_, "type": "function"}
        if rng.random() < 0.1:
            call |= {"type": "custom", "custom": {"name": name, "input": rng.choice(TEXTS)}}
        else:
            call["function"] = {"name": name, "arguments": _json(rng, arguments(rng))}
        if rng.random() < 0.2:
            call["extra_content"] = ODD
        if rng.random() < 0.1:
            call[call["type"]]["thought"] = "why"
        calls.append(call)
    if calls:
        message["tool_calls"] = calls
    reason = rng.choice(["stop", "tool_calls"]) if calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


def chat_stream(rng, whole):
    """Return its chunks."""
    (choice,) = whole["choices"]
    message = choice["message"]
    said = message["content"]
    events = [_chunk(whole, {"role": "assistant", "content": None if said is None else ""})]
    for name in ("reasoning_content", "content"):
        events += [_chunk(whole, {name: piece}) for piece in pieces(rng, message.get(name) or "")]
    for block in message.get("reasoning_details") or ():
        grown = "text" if "text" in block else "data"
        head = {key: each for key, each in block.items() if key != grown}
        events += [
            _chunk(whole, {"reasoning_details": [{**head, grown: piece}]})
            for piece in pieces(rng, block[grown])
        ]
    if "x_odd" in message:
        events.append(_chunk(whole, {"x_odd": message["x_odd"]}))
    per_call = [
        [_chunk(whole, {"tool_calls": [each]}) for each in _fragments(rng, at, call)]
        for at, call in enumerate(message.get("tool_calls") or ())
    ]
    if rng.random() < 0.2:  # in turns, each once those before it have begun
        begun = 1
        while any(per_call[:begun]):
            at = rng.choice([at for at, each in enumerate(per_call[:begun]) if each])
            events.append(per_call[at].pop(0))
            begun = max(begun, at + 2)
    events += [event for each in per_call for event in each]
    return [*events, _chunk(whole, {}, choice["finish_reason"])]


def _fragments(rng, at, call):
    kind = call["type"]
    grown = {"function": "arguments", "custom": "input"}[kind]
    inner = {key: each for key, each in call[kind].items() if key != grown}
    yield {"index": at, **call, kind: {**inner, grown: ""}}
    for piece in pieces(rng, call[kind][grown]):
        yield {"index": at, kind: {grown: piece}}


def _chunk(whole, delta, reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {**whole, "object": "chat.completion.chunk", "choices": [choice]}


# --------------------------------------------------------------------------------------- responses


def responses(rng):
    """Return a `response`."""
    output = []
    if rng.random() < 0.4:
        summary = [{"type": "summary_text", "text": "Thoughts."}]
        item = {"type": "reasoning", "id": "rs_1", "summary": summary}
        output.append({**item, "encrypted_content": "abc"} if rng.random() < 0.5 else item)
    if rng.random() < 0.5:
        part = {"type": "output_text", "text": "Let me see.", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
        output.append({**message, "status": "completed", "phase": "commentary"})
    if rng.random() < 0.2:
        search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
        output.append({**search, "action": {"type": "search", "query": "q"}})
    for at, (id_, name) in enumerate(names_and_ids(rng)):
        head = {"id": f"fc_{at}", "call_id": id_, "name": name, "status": "completed"}
        if rng.random() < 0.1:
            head["id"] = f"ctc_{at}"
            output.append({"type": "custom_tool_call", **head, "input": rng.choice(TEXTS)})
            continue
        item = {"type": "function_call", **head, "arguments": _json(rng, arguments(rng))}
        if rng.random() < 0.2:
            item["caller"] = PROGRAM
        if rng.random() < 0.1:
            item["namespace"] = "space"
        if rng.random() < 0.1:
            item["x_odd"] = ODD
        output.append(item)
    head = {"id": "r", "object": "response", "created_at": 1, "model": "m"}
    return {**head, "status": "completed", "output": output}


def responses_stream(rng, whole):
    """Return its events."""
    head = {**whole, "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": head}
    for at, item in enumerate(whole["output"]):
        grown = {"function_call": "arguments", "custom_tool_call": "input"}.get(item["type"])
        begun = {**item, grown: ""} if grown else dict(item)
        if "status" in item:
            begun["status"] = "in_progress"
        if item["type"] == "message":
            begun["content"] = []
        place = {"output_index": at, "item_id": item["id"]}
        yield {"type": "response.output_item.added", "output_index": at, "item": begun}
        if item["type"] == "message":
            for piece in pieces(rng, item["content"][0]["text"]):
                kind = "response.output_text.delta"
                yield {"type": kind, **place, "content_index": 0, "delta": piece}
        if grown:
            kind = f"response.{item['type'].removesuffix('_call')}_call_{grown}"
            for piece in pieces(rng, item[grown]):
                yield {"type": f"{kind}.delta", **place, "delta": piece}
            yield {"type": f"{kind}.done", **place, grown: item[grown]}
        yield {"type": "response.output_item.done", "output_index": at, "item": item}
    yield {"type": "response.completed", "response": whole}


# ---------------------------------------------------------------------------------------- messages


def messages(rng):
    """Return a `message`."""
    content = []
    if rng.random() < 0.3:
        content.append({"type": "thinking", "thinking": "Thoughts.", "signature": "sig"})
    if rng.random() < 0.1:
        content.append({"type": "redacted_thinking", "data": "abc"})
    if rng.random() < 0.6:
        content.append({"type": "text", "text": rng.choice(["Let me see.", *TEXTS])})
    code = rng.random() < 0.3
    if code:
        name, given = "code_execution", {"code": "print(1)"}
        use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": given}
        result = {"type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0}
        back = {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1"}
        content += [use, {**back, "content": {**result, "content": []}}]
    calls = names_and_ids(rng)
    for id_, name in calls:
        block = {"type": "tool_use", "id": id_, "name": name, "input": arguments(rng)}
        if code and rng.random() < 0.5:
            block["caller"] = CODE
        if rng.random() < 0.1:
            block["x_odd"] = ODD
        content.append(block)
    reason = "tool_use" if calls else "end_turn"
    head = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content}
    usage = {"input_tokens": 1, "output_tokens": 2}
    found = {**head, "stop_reason": reason, "stop_sequence": None, "usage": usage}
    if code:
        found["container"] = {"id": "container_1", "expires_at": "2026-11-29T00:00:00Z"}
    return found


def messages_stream(rng, whole):
    """Return its events."""
    start = {**whole, "content": [], "stop_reason": None}
    start.pop("container", None)
    yield {"type": "message_start", "message": start}
    for at, block in enumerate(whole["content"]):
        begun, deltas = dict(block), []
        for name, kind in (("text", "text_delta"), ("thinking", "thinking_delta")):
            if block["type"] == name:
                begun[name] = ""
                deltas += [{"type": kind, name: each} for each in pieces(rng, block[name])]
        if block["type"] == "thinking":
            begun["signature"] = ""
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        if block["type"].endswith("tool_use"):
            begun["input"] = {}
            deltas += [
                {"type": "input_json_delta", "partial_json": each}
                for each in ["", *pieces(rng, _json(rng, block["input"]))]
            ]
        yield {"type": "content_block_start", "index": at, "content_block": begun}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    if "container" in whole:
        delta["container"] = whole["container"]
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 2}}
    yield {"type": "message_stop"}


MAKERS = {
    "chat": (chat, chat_stream),
    "responses": (responses, responses_stream),
    "messages": (messages, messages_stream),
}


def made(rng, api):
    """Return a whole reply and its events, all dicts of their own."""
    make, stream = MAKERS[api]
    whole = make(rng)
    return whole, copy.deepcopy(list(stream(rng, copy.deepcopy(whole))))
