"""A loopback server that plays the model behind real coding agents: Anthropic messages and OpenAI responses.

It asks the agent to read train.py, to change one line, to write IDEA.md, and then says that it is done.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from openai_server import serving

IDEA = "DESCRIPTION: halve the matrix rate\nHYPOTHESIS: smoother\nTHEME: optimizer\n"
OLD, NEW = "MATRIX_LR = 0.04", "MATRIX_LR = 0.02"


@dataclass
class AgentServer:
    """What was asked."""

    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: AgentServer

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._json({})

    def do_GET(self) -> None:
        self._json({"data": [], "models": []})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(data)
        except ValueError:
            body = {}
        self.state.requests.append((self.path, body))
        self.state.headers.append(dict(self.headers))
        if "count_tokens" in self.path:
            self._json({"input_tokens": 1000})
        elif self.path.split("?")[0].endswith("/messages"):
            self._messages(body)
        elif self.path.split("?")[0].endswith("/responses"):
            self._responses(body)
        else:
            self._json({})

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _events(self, events: list[tuple[str, dict[str, Any]]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for name, value in events:
            frame = json.dumps({"type": name, **value})
            self.wfile.write(f"event: {name}\ndata: {frame}\n\n".encode())
        self.wfile.flush()

    # -- Anthropic ----------------------------------------------------------------------------

    def _messages(self, body: dict[str, Any]) -> None:
        text = json.dumps(body)
        folder = re.search(r"(/[^\s\"\\]*proposer-[^\s\"\\/]*/work)", text)
        step = sum(
            block.get("type") == "tool_result"
            for message in body.get("messages", [])
            if isinstance(message.get("content"), list)
            for block in message["content"]
            if isinstance(block, dict)
        )
        work = folder.group(1) if folder else "."
        tools: list[tuple[str, dict[str, str]]] = [
            ("Read", {"file_path": f"{work}/train.py"}),
            ("Edit", {"file_path": f"{work}/train.py", "old_string": OLD, "new_string": NEW}),
            ("Write", {"file_path": f"{work}/IDEA.md", "content": IDEA}),
        ]
        if not body.get("tools") or step >= len(tools):
            block: dict[str, Any] = {"type": "text", "text": ""}
            delta: dict[str, Any] = {"type": "text_delta", "text": "Done."}
            reason = "end_turn"
        else:
            name, given = tools[step]
            block = {"type": "tool_use", "id": f"toolu_{step}", "name": name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
            reason = "tool_use"
        message = {
            "id": f"msg_{step}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", "m"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1000, "output_tokens": 1},
        }
        if not body.get("stream"):
            content = (
                [{"type": "text", "text": "Done."}]
                if reason == "end_turn"
                else [{**block, "input": json.loads(delta["partial_json"])}]
            )
            self._json({**message, "content": content, "stop_reason": reason})
            return
        self._events(
            [
                ("message_start", {"message": message}),
                ("content_block_start", {"index": 0, "content_block": block}),
                ("content_block_delta", {"index": 0, "delta": delta}),
                ("content_block_stop", {"index": 0}),
                (
                    "message_delta",
                    {
                        "delta": {"stop_reason": reason, "stop_sequence": None},
                        "usage": {"output_tokens": 20},
                    },
                ),
                ("message_stop", {}),
            ]
        )

    # -- OpenAI -------------------------------------------------------------------------------

    def _responses(self, body: dict[str, Any]) -> None:
        step = sum(str(item.get("type", "")).endswith("_output") for item in body.get("input", []))
        script = (
            f"sed -i 's/{OLD}/{NEW}/' train.py",
            f"printf '{IDEA}' > IDEA.md".replace("\n", "\\n"),
        )
        item: dict[str, Any]
        if step >= len(script):
            item = {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
            }
        else:
            item = self._call(body, step, script[step])
        response = {
            "id": f"resp_{step}",
            "object": "response",
            "status": "in_progress",
            "output": [],
        }
        usage = {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 400},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 1020,
        }
        done = {**response, "status": "completed", "output": [item], "usage": usage}
        self._events(
            [
                ("response.created", {"response": response}),
                ("response.output_item.added", {"output_index": 0, "item": item}),
                ("response.output_item.done", {"output_index": 0, "item": item}),
                ("response.completed", {"response": done}),
            ]
        )

    def _call(self, body: dict[str, Any], step: int, command: str) -> dict[str, Any]:
        names = {tool.get("name") for tool in body.get("tools", [])}
        name = next(
            (n for n in ("exec_command", "shell_command", "shell", "local_shell") if n in names),
            "shell",
        )
        given: dict[str, Any] = {
            "exec_command": {"cmd": command},
            "shell_command": {"command": command},
        }.get(name, {"command": ["bash", "-c", command]})
        return {
            "type": "function_call",
            "id": f"fc_{step}",
            "call_id": f"call_{step}",
            "name": name,
            "arguments": json.dumps(given),
            "status": "completed",
        }


@contextmanager
def serve_agents() -> Iterator[AgentServer]:
    """Serve until the block ends."""
    with serving(AgentServer(), _Handler) as state:
        yield state
