"""The three providers' wire forms, written by hand from recorded replies; no SDK, no planner."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wire:
    """One API: how a reply with calls looks, and what answers say."""

    api: str
    planner: Any

    def reply(self, *calls, cut=False):
        """Return a reply; a call is (name, arguments) or (name, arguments, id)."""
        rows = [(c[0], c[1], c[2] if len(c) > 2 else f"call_{i}") for i, c in enumerate(calls, 1)]
        return getattr(self, f"_{self.api}")(rows, cut)

    def _chat(self, rows, cut):
        calls = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": as_json(args)}}
            for name, args, id in rows
        ]
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": calls}
        reason = "length" if cut else "tool_calls"
        choice = {"index": 0, "finish_reason": reason, "logprobs": None, "message": message}
        return {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": "gpt-5.1-2025-11-13",
            "choices": [choice],
            "usage": {"prompt_tokens": 82, "completion_tokens": 17, "total_tokens": 99},
        }

    def _responses(self, rows, cut):
        calls = [
            {
                "id": f"fc_{number}",
                "type": "function_call",
                "status": "completed",
                "call_id": id,
                "name": name,
                "arguments": as_json(args),
            }
            for number, (name, args, id) in enumerate(rows, 1)
        ]
        reasoning = {"id": "rs_1", "type": "reasoning", "summary": []}
        return {
            "id": "resp_67ca09c5efe0819096d0511c92b8c890096610f474011cc0",
            "object": "response",
            "created_at": 1741294021.0,
            "status": "incomplete" if cut else "completed",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": None,
            "model": "gpt-5.1-2025-11-13",
            "output": [reasoning, *calls],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }

    def _messages(self, rows, cut):
        blocks = [
            {"type": "tool_use", "id": id, "name": name, "input": args} for name, args, id in rows
        ]
        return {
            "id": "msg_01Aq9w938a90dw8q",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-6",
            "content": [{"type": "text", "text": "I'll look it up."}, *blocks],
            "stop_reason": "max_tokens" if cut else "tool_use",
            "stop_sequence": None,
            "usage": {"input_tokens": 472, "output_tokens": 65},
        }

    def answers(self, results):
        """Return (provider id, text) of each answer in what goes back."""
        if self.api == "chat":
            assert all(item["role"] == "tool" for item in results)
            return [(item["tool_call_id"], item["content"]) for item in results]
        if self.api == "responses":
            return [(item["call_id"], item["output"]) for item in results]
        if not results:
            return []
        (message,) = results
        assert message["role"] == "user"
        assert all(block["type"] == "tool_result" for block in message["content"])
        return [(block["tool_use_id"], block["content"]) for block in message["content"]]

    def conversation(self, *turns):
        """Return the body of the next request, after turns of (reply, results)."""
        found: list[Any] = [{"role": "user", "content": "hello"}]
        for reply, results in turns:
            if self.api == "chat":
                found.append(reply["choices"][0]["message"])
            elif self.api == "responses":
                found.extend(reply["output"])
            else:
                found.append({"role": "assistant", "content": reply["content"]})
            found.extend(results)
        return {"input" if self.api == "responses" else "messages": found}

    def schemas(self, planner):
        """Return the parameters' schema of each tool, by name."""
        if self.api == "chat":
            return {t["function"]["name"]: t["function"]["parameters"] for t in planner.tools}
        key = "parameters" if self.api == "responses" else "input_schema"
        return {tool["name"]: tool[key] for tool in planner.tools}


def as_json(args):
    """Return arguments as the OpenAI APIs carry them; text goes as it is."""
    return args if isinstance(args, str) or args is None else json.dumps(args)
