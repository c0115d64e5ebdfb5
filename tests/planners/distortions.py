"""Replies as servers distort them: a good reply, its stream, and what happens to it on the way.

Each distortion is one that public bug reports tell of. None of them changes what the model meant,
except those that are `LOSSY`: behind them calls may be told to the model instead of run.
"""

from __future__ import annotations

import copy
import json

from dagexec.testing import Reply
from dagexec.testing._wire import WIRES, Exchange

GOOD = {
    "chat": ["stop", "tool_calls", "function_call"],
    "responses": ["completed"],
    "messages": ["tool_use", "end_turn"],
}
BAD = ["error", "length", "content_filter", "max_tokens", "abort", "a new word", "incomplete"]
NO_WORD = ["", "null"]  # in a response it says nothing: there the event says how it ended
SIGNATURE = {"google": {"thought_signature": "sig"}}


def stream_of(api, reply, size, ids):
    """Return the events of a reply as dicts."""
    exchange = Exchange(1, "m", reply, ids, size, usage=True)
    return copy.deepcopy(
        [event.data for event in WIRES[api].stream(exchange) if isinstance(event.data, dict)]
    )


def made(rng, tools):
    """Return a reply of the model's."""
    texts = ["a", "Rome \U0001f600", '{"}', "", "x" * 30, "é\n\\"]
    calls = []
    for at in range(rng.randrange(1, 5)):
        name = rng.choice(tools)
        args = {"what": f"{at}{rng.choice(texts)}"}
        if rng.random() < 0.15:
            args = {}
        elif rng.random() < 0.2:
            args["many"] = [1, {"deep": [None, 2.5]}]
        calls.append((name, args))
    return Reply(rng.choice(["", "Let me see."]), calls)


# -------------------------------------------------------------------------------------------- chat


def _fragments(events):
    for event in events:
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            for fragment in delta.get("tool_calls") or ():
                if "function" in fragment:
                    yield event, fragment


def _continuations(events):
    seen = set()
    for event, fragment in _fragments(events):
        if fragment["index"] in seen:
            yield event, fragment
        seen.add(fragment["index"])


def chat_no_index(rng, events):
    """No fragment has an index."""
    for _, fragment in _fragments(events):
        if rng.random() < 0.5:
            fragment["index"] = None
        else:
            fragment.pop("index", None)


def chat_index_0(rng, events):
    """All calls have the same index."""
    for _, fragment in list(_fragments(events)):
        fragment["index"] = 0


def chat_null_ids(rng, events):
    """Continuations have an id that is the word null, and an empty name."""
    for _, fragment in _continuations(events):
        fragment["id"] = rng.choice(["null", "", None])
        fragment["function"]["name"] = rng.choice(["", None])


def chat_other_ids(rng, events):
    """Each continuation has an id of its own."""
    for at, (_, fragment) in enumerate(_continuations(events)):
        fragment["id"] = f"again_{at}"


def chat_names_again(rng, events):
    """Each fragment has the name."""
    names = {}
    for _, fragment in _fragments(events):
        name = fragment["function"].get("name")
        names.setdefault(fragment["index"], name)
        fragment["function"]["name"] = names[fragment["index"]]


def chat_no_ids(rng, events):
    """No call has an id."""
    empty = rng.choice(["", None])
    for _, fragment in _fragments(events):
        fragment["id"] = empty


def chat_extras(rng, events):
    """Unknown fields, also in a delta of their own."""
    found = [fragment for _, fragment in _fragments(events)]
    if not found:
        return
    rng.choice(found)["extra_content"] = SIGNATURE
    events.insert(
        len(events) - 1, _chunk(tool_calls=[{**rng.choice([{}, {"index": None}]), "odd": 1}])
    )


def _chunk(finish=None, **delta):
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def chat_nothings(rng, events):
    """Chunks with nothing in them."""
    nothing = [
        {"object": "chat.completion.chunk", "choices": None},
        {"object": "chat.completion.chunk"},
        {"choices": []},
        {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
        _chunk(tool_calls=None),
        _chunk(tool_calls=[], content=None, function_call={"name": "", "arguments": ""}),
    ]
    for _ in range(rng.randrange(1, 4)):
        events.insert(rng.randrange(len(events)), copy.deepcopy(rng.choice(nothing)))


def chat_empty_reasons(rng, events):
    """finish_reason is "" where it should be null."""
    for event in events:
        for choice in event.get("choices") or ():
            if choice.get("finish_reason") is None:
                choice["finish_reason"] = ""


def _last_of(events):
    last = {}
    for event, fragment in _fragments(events):
        last[fragment["index"]] = (event, fragment)
    return list(last.values())


def chat_behind(rng, events):
    """The arguments once more, or a brace, or a token of a template."""
    whole = {}
    for _, fragment in _fragments(events):
        whole.setdefault(fragment["index"], []).append(fragment["function"].get("arguments") or "")
    for _, fragment in _last_of(events):
        text = "".join(whole[fragment["index"]])
        if rng.random() < 0.5:
            function = fragment["function"]
            tail = rng.choice([text, "}", "</tool_call>", "<|im_end|>", "\n"])
            function["arguments"] = (function.get("arguments") or "") + tail


def chat_before(rng, events):
    """`{}` and then the real arguments."""
    seen = set()
    for _, fragment in _fragments(events):
        if fragment["index"] not in seen:
            function = fragment["function"]
            function["arguments"] = "{}" + (function.get("arguments") or "")
        seen.add(fragment["index"])


def chat_merge(rng, events):
    """Several fragments in one chunk."""
    at = 0
    while at + 1 < len(events):
        one, two = (each.get("choices") or [{}] for each in events[at : at + 2])
        first, second = (each[0].get("delta") or {} for each in (one, two))
        both = first.get("tool_calls") and second.get("tool_calls")
        if both and not one[0].get("finish_reason") and rng.random() < 0.5:
            second["tool_calls"] = [*first["tool_calls"], *second["tool_calls"]]
            del events[at]
        else:
            at += 1


def chat_interleave(rng, events):
    """The fragments of two calls in turn, as the protocol allows."""
    if any(len(list(_fragments([event]))) > 1 for event in events):
        return
    by_index = {}
    places = []
    for at, event in enumerate(events):
        found = [fragment for _, fragment in _fragments([event])]
        if len(found) == 1 and isinstance(found[0].get("index"), int):
            by_index.setdefault(found[0]["index"], []).append(event)
            places.append(at)
    queues = list(by_index.values())
    for at in places:
        queue = rng.choice([each for each in queues if each])
        events[at] = queue.pop(0)


def chat_other_choice(rng, events):
    """Calls in the second choice, text in the first."""
    for event, _ in list(_fragments(events)):
        for choice in event["choices"]:
            choice["index"] = 1
    for event in events[-3:]:
        for choice in list(event.get("choices") or ()):
            if choice.get("finish_reason"):
                event["choices"].append({**copy.deepcopy(choice), "index": 1})


# --------------------------------------------------------------------------------------- responses


def _typed(events, *ends):
    return [event for event in events if str(event.get("type")).endswith(ends)]


def responses_no_index(rng, events):
    """No output_index, and no ids of items: deltas have the call_id."""
    of = {}
    for event in events:
        event.pop("output_index", None)
        item = event.get("item")
        if item and item.get("call_id"):
            of[item["id"]] = item["call_id"]
            item.pop("id")
    for event in events:
        if event.get("item_id") in of:
            event["item_id"] = of[event["item_id"]]
    for item in events[-1]["response"]["output"]:
        if item.get("call_id"):
            item.pop("id", None)


def responses_other_ids(rng, events):
    """Ids that differ from event to event; the place says what belongs together."""
    for at, event in enumerate(events):
        if "item_id" in event:
            event["item_id"] = f"other_{at}"
        if event.get("item", {}).get("id", "").startswith("fc"):
            event["item"]["id"] = f"fc_other_{at}"


def responses_no_done(rng, events):
    """No `output_item.done`; the whole response has the items."""
    events[:] = [e for e in events if not str(e.get("type")).endswith("output_item.done")]


def responses_only_completed(rng, events):
    """Calls come with the whole response only."""
    events[:] = [
        e
        for e in events
        if not (e.get("item", {}).get("call_id") or "function_call" in str(e.get("type")))
    ]


def responses_empty_output(rng, events):
    """The whole response says nothing of its items."""
    events[-1]["response"]["output"] = []


def responses_no_deltas(rng, events):
    """Arguments come with their `done` only."""
    events[:] = [e for e in events if not str(e.get("type")).endswith("arguments.delta")]


def responses_empty_first(rng, events):
    """The deltas are `{}`, and `done` has the arguments."""
    seen = set()
    for event in list(events):
        if str(event.get("type")).endswith("arguments.delta"):
            if event["output_index"] in seen:
                events.remove(event)
            event["delta"] = "{}"
            seen.add(event["output_index"])


def responses_late_deltas(rng, events):
    """Deltas behind the end of their item."""
    late = [e for e in events if str(e.get("type")).endswith("arguments.delta")]
    if late:
        found = rng.choice(late)
        events.insert(len(events) - 1, copy.deepcopy(found))


def responses_early_deltas(rng, events):
    """Deltas and `arguments.done` before the item is added."""
    for event in _typed(events, "output_item.added"):
        if event["item"].get("call_id") and rng.random() < 0.7:
            at = events.index(event)
            if at + 1 < len(events) and "function_call" in events[at + 1]["type"]:
                events[at], events[at + 1] = events[at + 1], events[at]


def responses_no_names(rng, events):
    """The name and the call_id come with the last event of an item."""
    for event in _typed(events, "output_item.added"):
        if event["item"].get("call_id"):
            event["item"].pop(rng.choice(["name", "call_id"]))


def responses_status(rng, events):
    """Items and the response keep the status that they began with."""
    for event in events:
        for item in [event.get("item") or {}, *(event.get("response", {}).get("output") or ())]:
            if item.get("type") == "function_call":
                item.pop("status", None)
    events[-1]["response"]["status"] = rng.choice([None, "in_progress", "completed"])


def responses_objects(rng, events):
    """Arguments are objects."""
    for event in _typed(events, "output_item.done"):
        item = event["item"]
        if isinstance(item.get("arguments"), str):
            item["arguments"] = json.loads(item["arguments"] or "{}")


# ---------------------------------------------------------------------------------------- messages


def _uses(events):
    return [e for e in events if e.get("content_block", {}).get("type") == "tool_use"]


def messages_no_input(rng, events):
    """A block begins without `input`."""
    for event in _uses(events):
        event["content_block"].pop("input")


def messages_one_index(rng, events):
    """Blocks that follow one another have one index."""
    for event in events:
        if "index" in event:
            event["index"] = 0


def messages_no_index(rng, events):
    """No event has an index."""
    for event in events:
        event.pop("index", None)


def messages_whole_input(rng, events):
    """The input comes with the start of its block, and again in deltas."""
    texts = {}
    for event in events:
        delta = event.get("delta", {})
        if delta.get("type") == "input_json_delta":
            texts[event.get("index")] = texts.get(event.get("index"), "") + delta["partial_json"]
    for event in _uses(events):
        if text := texts.get(event.get("index")):
            event["content_block"]["input"] = json.loads(text.removeprefix("{}") or "{}")


def messages_empty_first(rng, events):
    """`{}` and then the real input."""
    seen = set()
    for event in events:
        delta = event.get("delta", {})
        if delta.get("type") == "input_json_delta":
            if event.get("index") not in seen:
                delta["partial_json"] = "{}" + delta["partial_json"]
            seen.add(event.get("index"))


def messages_no_stop(rng, events):
    """Blocks do not end."""
    events[:] = [e for e in events if e.get("type") != "content_block_stop"]


def messages_blank_text(rng, events):
    """An empty text before everything."""
    events.insert(
        1,
        {"type": "content_block_start", "index": 90, "content_block": {"type": "text", "text": ""}},
    )
    events.insert(2, {"type": "content_block_stop", "index": 90})


def messages_wrong_index(rng, events):
    """A delta has the index of a block that has ended; LOSSY."""
    if not any(e.get("type") == "content_block_stop" for e in events):
        return  # it would be a delta like any other
    deltas = [e for e in events if e.get("delta", {}).get("type") == "input_json_delta"]
    if deltas:
        rng.choice(deltas)["index"] = rng.randrange(4)


def messages_two_open(rng, events):
    """Two blocks begin at one index before their deltas come; LOSSY."""
    uses = _uses(events)
    if len(uses) > 1:
        events.remove(uses[1])
        events.insert(events.index(uses[0]) + 1, uses[1])
        old = uses[1].get("index")
        for event in events:
            if "index" in event and event["index"] == old:
                event["index"] = uses[0].get("index")


# ------------------------------------------------------------------------------------- all of them


def halves(rng, events):
    """A character is cut in two between chunks, where one is a piece of its own."""
    for at, event in enumerate(events):
        text = json.dumps(event, ensure_ascii=False)
        if "\U0001f600" not in text:
            continue
        one, two = (json.loads(text.replace("\U0001f600", half)) for half in ("\ud83d", "\ude00"))
        pieces = [piece for piece in _pieces(event) if piece == "\U0001f600"]
        if pieces:
            events[at : at + 1] = [one, two]
            return


def _pieces(event):
    for choice in event.get("choices") or ():
        for fragment in (choice.get("delta") or {}).get("tool_calls") or ():
            yield (fragment.get("function") or {}).get("arguments")
    delta = event.get("delta")
    yield delta if isinstance(delta, str) else (delta or {}).get("partial_json")


def unknown_keys(rng, events):
    """Keys that nobody knows, anywhere."""
    for event in events:
        if rng.random() < 0.3:
            event["x_odd"] = {"a": [1]}


ALONE = {  # with anything that is not of the same kind
    "chat": [
        chat_null_ids,
        chat_names_again,
        chat_extras,
        chat_nothings,
        chat_empty_reasons,
        chat_behind,
        chat_before,
        chat_merge,
        unknown_keys,
        halves,
    ],
    "responses": [
        responses_late_deltas,
        responses_early_deltas,
        responses_no_names,
        responses_status,
        responses_objects,
        responses_no_deltas,
        responses_empty_first,
        unknown_keys,
        halves,
    ],
    "messages": [
        messages_no_input,
        messages_whole_input,
        messages_empty_first,
        messages_blank_text,
        unknown_keys,
        halves,
    ],
}
ONE_OF = {  # one of these at most
    "chat": [
        chat_no_index,
        chat_index_0,
        chat_other_ids,
        chat_no_ids,
        chat_interleave,
        chat_other_choice,
    ],
    "responses": [
        responses_no_index,
        responses_other_ids,
        responses_no_done,
        responses_only_completed,
        responses_empty_output,
    ],
    "messages": [messages_one_index, messages_no_index, messages_no_stop],
}
# Behind `{}` nothing tells the rest of a call from another one; no server is known to do both.
NEVER = [
    ({chat_before, chat_interleave}, chat_before),
    ({chat_before, chat_names_again, chat_other_ids}, chat_before),
]
LOSSY = {"chat": [], "responses": [], "messages": [messages_wrong_index, messages_two_open]}


def end_word(api, events, word):
    """Give a reply another end."""
    for event in reversed(events):
        if api == "chat":
            ends = [each for each in event.get("choices") or () if each.get("finish_reason")]
            for choice in ends:
                choice["finish_reason"] = word
            if ends:
                return
        elif api == "messages" and event.get("type") == "message_delta":
            event["delta"]["stop_reason"] = word
            return
        elif api == "responses" and str(event.get("type")).startswith("response."):
            event["response"]["status"] = word
            return
