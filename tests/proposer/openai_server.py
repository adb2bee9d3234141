"""A small OpenAI-compatible server on loopback: chat completions, streaming, usage, and every kind of trouble."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """How one request is answered."""

    text: str = "OK"
    status: int = 200
    error: str = "trouble"
    code: str | None = None
    finish: str = "stop"
    headers: tuple[tuple[str, str], ...] = ()
    seconds_before: float = 0.0
    seconds_between: float = 0.0
    has_usage: bool = True
    tokens_cached: int = 0
    raw: bytes | None = None
    """Sent instead of anything sensible."""
    kind: str = "application/json"
    """Content type of what is sent whole."""
    param: str | None = None
    """The option an error names."""
    is_broken_off: bool = False
    """The connection ends in the middle of the answer."""


@dataclass
class Server:
    """What the server was asked, and what it will answer."""

    answer: Callable[[int, dict[str, Any]], Say]
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    num_prompt_tokens: int = 1000
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prompt(self, index: int = -1) -> str:
        """The text of all messages of a request."""
        return "\n".join(
            m["content"]
            if isinstance(m["content"], str)
            else "".join(p["text"] for p in m["content"])
            for m in self.requests[index]["messages"]
        )


def completion(text: Any, usage: Any = None, finish: str = "stop") -> bytes:
    """Return an answer that is not streamed."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    frame = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps({**frame, "choices": [choice], "usage": usage}).encode()


def events(*deltas: dict[str, Any], finish: str | None = "stop", usage: Any = None) -> bytes:
    """Return a stream of these deltas."""
    frame = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
    frames: list[dict[str, Any]] = [{**frame, "choices": [chunk]} for chunk in chunks]
    if usage:
        frames.append({**frame, "choices": [], "usage": usage})
    return (
        b"".join(b"data: " + json.dumps(f).encode() + b"\n\n" for f in frames) + b"data: [DONE]\n\n"
    )


def tokens_of(text: str) -> int:
    return max(1, len(text) // 4)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.state.lock:
            index = len(self.state.requests)
            self.state.requests.append(body)
            self.state.keys.append(self.headers.get("authorization", ""))
        say = self.state.answer(index, body)
        time.sleep(say.seconds_before)
        try:
            self._send(say, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, say: Say, body: dict[str, Any]) -> None:
        if say.raw is not None:
            self._whole(say.status, say.raw, say)
        elif say.status != 200:
            error = {
                "error": {
                    "message": say.error,
                    "type": "error",
                    "code": say.code,
                    "param": say.param,
                }
            }
            self._whole(say.status, json.dumps(error).encode(), say)
        elif body.get("stream"):
            self._stream(say, body)
        else:
            self._whole(200, completion(say.text, self._usage(say), say.finish), say)

    def _whole(self, status: int, data: bytes, say: Say) -> None:
        self.send_response(status)
        self.send_header("content-type", say.kind)
        self.send_header("content-length", str(len(data)))
        for name, value in say.headers:
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = say.is_broken_off
        self.wfile.write(data[: len(data) // 2] if say.is_broken_off else data)

    def _stream(self, say: Say, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        size = max(1, len(say.text) // 5 + 1)
        pieces = [say.text[i : i + size] for i in range(0, len(say.text), size)]
        for number, piece in enumerate(pieces):
            delta = {"role": "assistant", "content": piece} if number == 0 else {"content": piece}
            self._event(body, [{"index": 0, "delta": delta, "finish_reason": None}])
            time.sleep(say.seconds_between)
            if say.is_broken_off and number == 1:
                return
        self._event(body, [{"index": 0, "delta": {}, "finish_reason": say.finish}])
        if say.has_usage and (body.get("stream_options") or {}).get("include_usage"):
            self._event(body, [], usage=self._usage(say))
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, body: dict[str, Any], choices: list[Any], **more: Any) -> None:
        frame = self._frame(body, "chat.completion.chunk", choices) | more
        self.wfile.write(b"data: " + json.dumps(frame).encode() + b"\n\n")
        self.wfile.flush()

    def _frame(self, body: dict[str, Any], kind: str, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": kind,
            "created": 1,
            "model": body["model"],
            "choices": choices,
        }

    def _usage(self, say: Say) -> dict[str, Any]:
        tokens_in, tokens_out = self.state.num_prompt_tokens, tokens_of(say.text)
        return {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "prompt_tokens_details": {"cached_tokens": say.tokens_cached},
        }


@contextmanager
def serve(*answers: Say | Callable[[int, dict[str, Any]], Say]) -> Iterator[Server]:
    """Answer requests one after another, the last answer again and again."""

    def answer(index: int, body: dict[str, Any]) -> Say:
        chosen = answers[min(index, len(answers) - 1)]
        return chosen if isinstance(chosen, Say) else chosen(index, body)

    with serving(Server(answer), _Handler) as state:
        state.url += "/v1"
        yield state


@contextmanager
def serving(state: Any, handler: type[BaseHTTPRequestHandler]) -> Iterator[Any]:
    """Serve on loopback until the block ends; a handler has `state`, whose `url` is the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
