"""What a coding agent printed about itself: tokens, money, and what went wrong."""

import contextlib
import json
from typing import Any

from autoresearch.proposer.agent.process import AgentRun
from autoresearch.types import Usage


def read_usage(output: str, seconds: float) -> Usage:
    """Return what an agent says it used, from the JSON it printed (Claude Code, Codex); else only the time."""
    tokens_in = tokens_out = tokens_cached = 0
    cost: float | None = None
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        try:
            item = json.loads(line)
        except ValueError:
            continue
        used: Any = item.get("usage") if isinstance(item, dict) else None
        if not isinstance(used, dict):
            continue
        if item.get("type") == "turn.completed":  # Codex: input includes what was cached.
            tokens_in += _whole(used.get("input_tokens"))
            tokens_cached += _whole(used.get("cached_input_tokens"))
        elif item.get("type") == "result":  # Claude Code: three separate counts.
            read = _whole(used.get("cache_read_input_tokens"))
            tokens_cached += read
            tokens_in += _whole(used.get("input_tokens")) + read
            tokens_in += _whole(used.get("cache_creation_input_tokens"))
            said = item.get("total_cost_usd")
            cost = float(said) if isinstance(said, int | float) else cost
        else:
            continue
        tokens_out += _whole(used.get("output_tokens"))
    return Usage(1, tokens_in, tokens_out, tokens_cached, cost, seconds)


def last_words(run: AgentRun) -> str:
    """Return what an agent said went wrong: in the JSON it printed, else its last line of errors or output."""
    for line in reversed(run.output.splitlines()):
        with contextlib.suppress(ValueError, AttributeError):
            item = json.loads(line)
            error = item.get("error")
            said = [
                error.get("message") if isinstance(error, dict) else error,  # Codex, the end.
                item.get("result") if item.get("is_error") else None,  # Claude Code.
                item.get("message") if item.get("type") == "error" else None,  # Codex, on the way.
            ]
            if words := next((text for text in said if text and isinstance(text, str)), ""):
                return words
    for text in (run.errors, run.output):
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return ""


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0
