"""Coding-agent commands the lab knows: how to call them unattended, and the sign-in they need.

Presets are for Claude Code and Codex, by the `--help` and the behaviour of 2.1.197 and 0.169.0: one bounded turn, edits
accepted, no shell for Claude Code, sessions not stored, output as JSON for the cost. Codex 0.169.0 takes
`CODEX_API_KEY` and no notice of `OPENAI_API_KEY`, unless config.toml names a provider that wants it. Of the others
only the variables and files that hold their sign-in are known; their commands are examples in docs/proposers.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.errors import ConfigError


@dataclass(frozen=True)
class Agent:
    """What one command-line agent needs."""

    variables: tuple[str, ...] = ()
    """Environment variables that hold its sign-in and address."""
    files: tuple[str, ...] = ()
    """Files of the person's home it signs in with; copied into the private home."""
    refreshed: tuple[str, ...] = ()
    """Those of `files` the agent may renew; copied back when it did."""
    preset: tuple[str, ...] = ()
    sandboxed_preset: tuple[str, ...] = ()
    """Where the lab's own sandbox is around it and the agent's would not work inside."""
    status: tuple[str, ...] = ()
    """Arguments with which a preset ends with 0 where it is signed in."""
    signed_in_by: tuple[str, ...] = ()
    """Variables that sign it in although `status` does not know."""
    provider_line: tuple[str, str] = ("", "")
    """File of the home, and what it says where another provider is used: `status` does not count then."""
    sign_in: str = ""
    """What to do where it is not signed in."""
    model_option: str = "--model"
    cost_option: str = ""
    """Option that caps the money of one call, in US dollars."""
    install: str = ""


_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY")
_CODEX = ("codex", "exec", "--json", "--ephemeral", "--skip-git-repo-check", "--color", "never")

AGENTS: Mapping[str, Agent] = {
    "claude": Agent(
        variables=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_MODEL",
            "CLAUDE_CODE_OAUTH_TOKEN",
        ),
        files=(".claude/.credentials.json",),
        refreshed=(".claude/.credentials.json",),
        preset=(
            "claude",
            "--print",
            "--output-format=json",
            "--permission-mode=acceptEdits",
            "--tools=Read,Edit,Write,Glob,Grep",
            "--strict-mcp-config",
            "--no-session-persistence",
        ),
        status=("auth", "status"),
        sign_in="`export ANTHROPIC_API_KEY=...`, or `CLAUDE_CODE_OAUTH_TOKEN=...` from `claude setup-token`",
        cost_option="--max-budget-usd",
        install="npm install -g @anthropic-ai/claude-code",
    ),
    "codex": Agent(
        variables=("CODEX_API_KEY", "OPENAI_API_KEY"),
        files=(".codex/auth.json", ".codex/config.toml"),
        refreshed=(".codex/auth.json",),
        preset=(*_CODEX, "--sandbox=workspace-write"),
        sandboxed_preset=(*_CODEX, "--dangerously-bypass-approvals-and-sandbox"),
        status=("login", "status"),
        signed_in_by=("CODEX_API_KEY",),
        provider_line=(".codex/config.toml", "model_provider"),
        sign_in="`codex login`, or `export CODEX_API_KEY=...`",
        install="npm install -g @openai/codex",
    ),
    "gemini": Agent(
        variables=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"),
        files=(".gemini/oauth_creds.json", ".gemini/settings.json", ".gemini/google_accounts.json"),
        refreshed=(".gemini/oauth_creds.json",),
        install="npm install -g @google/gemini-cli",
    ),
    "opencode": Agent(
        variables=_KEYS,
        files=(".local/share/opencode/auth.json", ".config/opencode/opencode.json"),
        refreshed=(".local/share/opencode/auth.json",),
        install="npm install -g opencode-ai",
    ),
    "aider": Agent(variables=(*_KEYS, "OPENAI_API_BASE"), install="pip install aider-chat"),
}


def agent_of(command: Sequence[str]) -> Agent:
    """Return what is known of the agent a command starts, by the name of its program."""
    return AGENTS.get(Path(command[0]).name, Agent())


def can_be_capped(command: Sequence[str]) -> bool:
    """Return whether the agent is started by a preset that can be held to a sum of money."""
    return len(command) == 1 and bool(agent_of(command).cost_option)


def takes_model(command: Sequence[str]) -> bool:
    """Return whether a command is started with `[proposer] model`: a preset is, and one that says `{model}`."""
    is_preset = len(command) == 1 and bool(agent_of(command).preset)
    return is_preset or any("{model}" in part for part in command)


def command_line(
    command: Sequence[str], *, model: str, cap_usd: float | None, is_sandboxed: bool
) -> list[str]:
    """Return the arguments to start an agent with.

    Args:
        command: `[proposer] command`; one known name alone stands for its preset.
        model: `[proposer] model`, added to presets only; empty leaves the agent's own choice.
        cap_usd: The most the run may cost, given to presets that can keep to it.
        is_sandboxed: Whether the lab's sandbox is around the agent.

    Raises:
        ConfigError: the command is empty, or a lone name that has no preset.
    """
    if not command:
        raise ConfigError(
            "`proposer.command` is empty",
            hint='set `command = ["claude"]` or `command = ["codex"]` in autoresearch.toml',
        )
    agent = agent_of(command)
    if len(command) > 1 or not (agent.preset or command[0] in AGENTS):
        return list(command)
    if not agent.preset:
        raise ConfigError(
            f"`{command[0]}` has no preset",
            hint="write its whole command; docs/proposers.md has one",
        )
    line = list(agent.sandboxed_preset if is_sandboxed and agent.sandboxed_preset else agent.preset)
    line[0] = command[0]
    if model:
        line.append(f"{agent.model_option}={model}")
    if agent.cost_option and cap_usd is not None:
        line.append(f"{agent.cost_option}={cap_usd:.2f}")
    return line
