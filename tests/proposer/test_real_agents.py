"""Real coding agents, where installed, pointed at a loopback model: `pytest tests/proposer/test_real_agents.py`.

Install with `npm install @anthropic-ai/claude-code @openai/codex` and put `node_modules/.bin` on the PATH.
"""

import shutil
import threading
from pathlib import Path

import pytest
from agent_server import serve_agents
from proposer_sample import TRAIN, context

from autoresearch.config import load_config
from autoresearch.proposer.agent.proposer import CommandProposer

pytestmark = pytest.mark.slow

CODEX = """
model_provider = "loopback"
model = "some-model"
[model_providers.loopback]
name = "loopback"
base_url = "{url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
"""


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_real_agent_proposes(name: str, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    base = load_config(None).config.proposer
    settings = base.model_copy(
        update={"kind": "command", "command": [name], "timeout_seconds": 120.0}
    )
    # Codex refuses a home below the system's temporary folder.
    scratch = Path(__file__).resolve().parents[2] / ".scratch-agents"
    try:
        with serve_agents() as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-loopback")
            monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")
            (isolated / ".codex").mkdir()
            (isolated / ".codex" / "config.toml").write_text(CODEX.format(url=server.url))
            proposer = CommandProposer(settings, scratch=scratch)
            assert name in proposer.check()
            p = proposer.propose(context(), threading.Event())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    assert p.files["train.py"] == TRAIN.replace("0.04 ", "0.02 ")
    assert p.description == "halve the matrix rate"
    assert p.usage.tokens_in > 1000
    assert server.requests
