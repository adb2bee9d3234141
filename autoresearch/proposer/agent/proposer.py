"""The `command` proposer: a coding-agent command edits a scratch copy; what it changed is the proposal.

The agent runs in the sandbox with network, a private home, a copy of the editable files and of its own sign-in,
and nothing else of the machine. It gets the prompt as `PROMPT.md` and on standard input, a time
limit, and writes what it meant to `IDEA.md`.
"""

import contextlib
import math
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoresearch.config import ProposerConfig
from autoresearch.errors import PrerequisiteError
from autoresearch.events import Alerted
from autoresearch.paths import find_run_directory, home
from autoresearch.proposer import base, edits, variables
from autoresearch.proposer.agent.presets import (
    AGENTS,
    agent_of,
    can_be_capped,
    command_line,
    takes_model,
)
from autoresearch.proposer.agent.process import (
    MAX_OUTPUT_MB,
    AgentRun,
    failure_of,
    in_place,
    interpreters,
    last_words,
    node_folders,
    ports_of,
    program_folders,
    read_usage,
    run_agent,
)
from autoresearch.proposer.agent.scratch import PROMPT_NAME, Found, Scratch, read_plain
from autoresearch.proposer.answers import read_headings
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    CostLimitError,
    Notify,
    ProposerUnavailableError,
    Refusal,
    Streak,
    ignore_alert,
    is_over,
    refuse,
)
from autoresearch.proposer.edits import listed, make_proposal
from autoresearch.proposer.llm.errors import PAUSE_SECONDS
from autoresearch.proposer.prompt import Limits, Preview, Prompt, build_prompt
from autoresearch.sandbox import NoSandbox, Policy, Sandbox
from autoresearch.types import Proposal, Reason, Usage
from autoresearch.util.text import one_line, redact

_PROMPT_TOKENS = 60_000
_CHECK_SECONDS = 60.0
_LEAST_USD = 0.01
"""What an agent can be held to at least."""
_CAP_SHARE = 0.25
"""Part of what is left of `--max-cost` that one run is given, so that one that dies without a word costs no more."""
_NOT_STARTED = (126, 127)
"""Exit codes of a shell and of `env` for a program that cannot be started."""
_ARE_THERE = (
    *("/bin/sh", "-c"),
    'for p; do command -v "$p" >&2 || test -e "$p" || { printf %s "$p"; exit 127; }; done',
    "sh",
)
"""Prints the first of the programs and files behind it that is not there."""
_COMMON = (
    *("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"),
    *variables.PROXIES,
)


class CommandProposer:
    """Runs a command-line agent.

    Args:
        config: `[proposer]`.
        sandbox: What keeps the agent in; None is none.
        scratch: Folder for scratch folders; None is the system's.
        notify: Told once that the cost is not known, and once that a renewed sign-in is lost.

    Raises:
        ConfigError: no command, or an unknown preset.
    """

    kind = "command"

    def __init__(
        self,
        config: ProposerConfig,
        sandbox: Sandbox | None = None,
        scratch: Path | None = None,
        notify: Notify = ignore_alert,
    ) -> None:
        self._config = config
        self._sandbox = sandbox or NoSandbox()
        self._scratch = scratch
        self._notify = notify
        self._folder = Path.cwd()
        with contextlib.suppress(PrerequisiteError):
            self._folder = find_run_directory().root
        self._dearest_usd = 0.0
        self._is_cost_told = False
        self._sign_in_told: set[str] = set()
        self._agent = agent_of(self._line(None))
        self.name = f"`{config.command[0]}`"
        self._streak = Streak(self.name, f"run {self.name} by hand: is it signed in?")

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Return a proposal; see `Proposer.propose`.

        Raises:
            EditFailedError: the agent changed nothing that may be tried, after all rounds.
            ProposerUnavailableError: the command failed, took too long or changed nothing.
            CancelledError: `stop` was set.
        """
        if context.cost_left_usd is not None:
            if context.cost_left_usd <= 0:
                raise CostLimitError("`--max-cost` is spent", retry_seconds=None)
            if self._is_cost_told:
                raise CostLimitError(
                    f"{self.name} did not say what it cost, so `--max-cost` cannot be enforced",
                    hint="set `[proposer] price_in` and `price_out`, or leave `--max-cost` out",
                    retry_seconds=None,
                )
        prompt = self._prompt(context)
        usage, told = Usage(), ""
        refusal: Refusal | None = None
        outputs: list[str] = []
        with Scratch(self._scratch) as scratch:
            scratch.put(context.files, prompt.text)
            for rounds_left in range(base.MAX_ROUNDS, -1, -1):
                text = prompt.text + told
                if told:
                    scratch.put_prompt(text)
                run, used = self._run(scratch, text, stop, usage, context.cost_left_usd)
                usage = usage + used
                outputs.append(f"## Run {len(outputs) + 1}\n\n{run.output}\n\n{run.errors}")
                found = scratch.read(context.files)
                last, refusal = refusal, self._refusal(context, found, run)
                # One that never stops was told to: what it has done by then is its idea.
                if refusal is not None or run.ended not in ("time", "output"):
                    self._raise_unless_done(run, usage)
                if refusal is None:
                    self._streak.end()
                    return self._proposal(context, found.files, found, usage, prompt, outputs)
                if is_over(last, refusal, rounds_left):
                    files = dict(context.files)
                    failed = self._proposal(context, files, found, usage, prompt, outputs)
                    raise self._streak.useless(refusal, failed)
                if refusal.reason not in _CORRECTED:
                    scratch.put(context.files, text)
                told = _complaint(refusal)
        raise AssertionError("unreachable")

    def preview(self, context: Context) -> Preview:
        """Return the prompt the agent would get; see `Proposer.preview`."""
        return Preview(self.kind, self._prompt(context))

    def _prompt(self, context: Context) -> Prompt:
        tokens = self._config.context_tokens or _PROMPT_TOKENS
        return build_prompt(context, Limits(tokens, is_agent=True))

    def check(self) -> str:
        """Ask a known agent for its version, and a preset whether it is signed in, as it would run in the session.

        A script of one's own need not know `--version`: it, what runs it and the files it is given must be there.

        Raises:
            PrerequisiteError: the command is not there, cannot be started, or is not signed in.
        """
        variables.tidy((*self._agent.variables, *self._config.pass_env))
        program = self._line(None)[0]
        if shutil.which(program) is None:
            raise PrerequisiteError(
                f"`{program}` is not on the PATH",
                hint=f"install it with `{self._agent.install}`"
                if self._agent.install
                else "correct `[proposer] command` in autoresearch.toml",
                kind="proposer",
            )
        where = f"sandbox {self._sandbox.name}"
        if self._agent not in AGENTS.values():
            self._check_parts(program)
            return f"command: `{program}`, {where}"
        run = self._try(program, "--version")
        if run.code != 0:
            said = one_line(redact(run.errors or run.output), 200) or _ending(run, _CHECK_SECONDS)
            raise PrerequisiteError(
                f"`{program} --version` fails: {said}",
                hint="run it by hand; if it works there, see `autoresearch doctor` for the sandbox",
                kind="proposer",
            )
        if not self._is_signed_in(program):
            raise PrerequisiteError(
                f"`{program}` is not signed in", hint=self._agent.sign_in, kind="proposer"
            )
        return f"command: `{program}` {one_line(run.output, 60)}, {where}"

    def _check_parts(self, program: str) -> None:
        """See that the sandbox shows a command, its interpreter, and the files it is given by whole paths."""
        files = [part for part in self._line(None)[1:] if Path(part).is_absolute()]
        parts = [
            *interpreters(Path(shutil.which(program) or program)),
            *filter(os.path.isfile, files),
        ]
        run = self._try(program, *parts, before=_ARE_THERE)
        if run.code == 127 and run.output:
            raise PrerequisiteError(
                f"{self.name} cannot be started: the sandbox has no `{one_line(run.output, 200)}`",
                hint="the PATH of an agent is the folder of its command, that of node, /usr/local/bin, /usr/bin and"
                " /bin: put what it needs into one of them",
                kind="proposer",
            )

    def _is_signed_in(self, program: str) -> bool:
        """Whether a preset finds its sign-in; True where it is not known."""
        agent = self._agent
        if not agent.status or any(name in os.environ for name in agent.signed_in_by):
            return True
        file, words = agent.provider_line
        text = read_plain(home() / file) if file else None
        if self._config.pass_env or (text is not None and words.encode() in text):
            return True
        return self._try(program, *agent.status).code == 0

    def _try(self, program: str, *arguments: str, before: Sequence[str] = ()) -> AgentRun:
        """Run the command for a moment, with its sign-in; `before` it what runs it."""
        with Scratch(self._scratch) as scratch:
            scratch.bring(home(), self._agent.files)
            never, line = threading.Event(), [program, *arguments]
            return self._execute(scratch, line, "", never, _CHECK_SECONDS, before)

    # -- running ------------------------------------------------------------------------------

    def _line(self, cap: float | None) -> list[str]:
        line = command_line(
            self._config.command,
            model=self._config.model,
            cap_usd=cap,
            is_sandboxed=self._sandbox.name != "none",
        )
        program = str(self._folder / line[0]) if os.sep in line[0] else line[0]
        return [program, *line[1:]]

    def _run(
        self,
        scratch: Scratch,
        prompt: str,
        stop: threading.Event,
        usage: Usage,
        cost_left: float | None,
    ) -> tuple[AgentRun, Usage]:
        left = None if cost_left is None else cost_left - (usage.cost_usd or 0.0)
        if left is not None and left < _LEAST_USD:
            raise CostLimitError("`--max-cost` is spent", retry_seconds=None, usage=usage)
        cap = self._cap(left)
        line = [
            part.replace("{prompt_file}", PROMPT_NAME).replace("{model}", self._config.model)
            for part in self._line(cap)
        ]
        scratch.bring(home(), self._agent.files)
        try:
            run = self._execute(scratch, line, prompt, stop, self._config.timeout_seconds)
        finally:
            self._tell_sign_in(*scratch.give_back(home(), self._agent.refreshed))
        used = self._usage(run, cap)
        if stop.is_set():
            raise CancelledError("the session ended", usage=usage + used)
        return run, used

    def _cap(self, left: float | None) -> float | None:
        """Return the most the next run may cost; None where there is no limit, or no way to tell the agent.

        A part of what is left, but room for twice the dearest run so far: an idea cut off by its cap is paid for
        nothing.
        """
        if left is None or not can_be_capped(self._config.command):
            return None
        most = min(left, max(_CAP_SHARE * left, 2 * self._dearest_usd))
        return max(_LEAST_USD, math.floor(100 * most) / 100)

    def _tell_sign_in(self, written: list[str], problems: list[str]) -> None:
        """Say once that an agent renewed its sign-in, and once that a renewed one is lost with the scratch folder."""
        texts = {}
        if written:
            texts["written"] = (
                f"{self.name} renewed its sign-in: {', '.join(written)} is replaced, the one before is in `.bak`"
            )
        if problems:
            texts["lost"] = (
                f"the renewed sign-in of {self.name} cannot be written back ({'; '.join(problems)}):"
                " sign in again if the old one is refused"
            )
        for what in texts.keys() - self._sign_in_told:
            self._sign_in_told.add(what)
            self._notify(Alerted(text=texts[what], about=f"the sign-in of {self.name}"))

    def _execute(
        self,
        scratch: Scratch,
        line: Sequence[str],
        prompt: str,
        stop: threading.Event,
        limit_seconds: float,
        before: Sequence[str] = (),
    ) -> AgentRun:
        # Its folder is another one inside.
        found = shutil.which(line[0])
        program = Path(found).absolute() if found else Path(line[0])
        environment = self._environment(program)
        words, files = in_place(line[1:], self._folder, scratch.work)
        policy = Policy(
            profile="proposer",
            working_directory=scratch.work,
            home=scratch.home,
            read_only=tuple(dict.fromkeys((*program_folders(program, scratch.home), *files))),
            environment=environment,
            needs_network=True,
            ports=ports_of(self._config.ports, environment.values()),
        )
        # Codex keeps no helpers in a home that is the temporary folder itself.
        inner = ["/usr/bin/env", f"TMPDIR={scratch.temporary}", *before, str(program), *words]
        return run_agent(self._sandbox.wrap(inner, policy), prompt, stop, limit_seconds)

    def _environment(self, program: Path) -> dict[str, str]:
        """Return all that the agent sees of the environment."""
        names = (*_COMMON, *self._agent.variables, *self._config.pass_env)
        env = {name: os.environ[name] for name in names if name in os.environ}
        folders = [str(program.parent), *node_folders(), "/usr/local/bin", "/usr/bin", "/bin"]
        return {
            **env,
            "PATH": os.pathsep.join(dict.fromkeys(folders)),
            "TERM": "dumb",
            "NO_COLOR": "1",
            "CI": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
        }

    # -- what came of it ----------------------------------------------------------------------

    def _raise_unless_done(self, run: AgentRun, usage: Usage) -> None:
        failure = failure_of(run)
        if run.code == 0 and failure is None:
            return
        said = one_line(redact(failure or last_words(run)), 300)
        hint = f"run {self.name} by hand: is it signed in?"
        wait = self._streak.wait(usage.num_calls)
        if run.code in _NOT_STARTED:  # time does not heal it
            wait = PAUSE_SECONDS
            hint = f"{self.name}, or what it starts, is not there in the sandbox: `autoresearch doctor`"
        elif run.ended == "time":
            hint = "raise `[proposer] timeout_seconds`"
        elif run.ended == "output":
            hint = "have it print less, by a flag in `[proposer] command`"
        what = _ending(run, self._config.timeout_seconds)
        if run.code == 0:
            what = "ended with exit code 0, but says that it failed"
        raise ProposerUnavailableError(
            f"{self.name} {what}" + (f": {said}" if said else ""),
            hint=hint,
            retry_seconds=wait,
            usage=usage,
        )

    def _refusal(self, context: Context, found: Found, run: AgentRun) -> Refusal | None:
        """Return why what the agent left may not be tried, or None."""
        if found.problem:
            return refuse(Reason.EDIT_FAILED, problem=found.problem)
        if needed := _imported(found):
            names = listed(one_line(path, 80) for path in needed[:5])
            return Refusal(
                Reason.OUT_OF_SCOPE,
                f"{names} may not be made, only {listed(context.files)} changed:"
                " put what is imported from there into that",
            )
        if found.files == context.files:
            said = one_line(redact(last_words(run)), 200)
            problem = "no file was changed" + (f"; the last words: {said}" if said else "")
            return refuse(Reason.NO_ANSWER, problem=problem)
        return edits.check_change(context, found.files)

    def _proposal(
        self,
        context: Context,
        files: Mapping[str, str],
        found: Found,
        usage: Usage,
        prompt: Prompt,
        outputs: Sequence[str],
    ) -> Proposal:
        headings = read_headings(found.idea)
        left = (
            [f"(dropped: {one_line(', '.join(found.outside[:20]), 400)})"] if found.outside else []
        )
        attachments = {
            "prompt.md": prompt.text.encode("utf-8", "replace"),
            "reply.md": redact("\n".join([found.idea, *left, *outputs])).encode("utf-8", "replace"),
        }
        model = Path(self._config.command[0]).name
        if self._config.model and takes_model(self._config.command):
            model += f" {self._config.model}"
        return make_proposal("command", context, files, headings, usage, attachments, model)

    def _usage(self, run: AgentRun, cap: float | None) -> Usage:
        """Return what a run cost; one that was given a cap and did not say is booked at that."""
        usage = read_usage(run.output, run.seconds)
        if usage.cost_usd is not None:
            self._dearest_usd = max(self._dearest_usd, usage.cost_usd)
            return usage
        if usage.tokens_in and self._config.price_in >= 0:
            cost = usage.tokens_in * self._config.price_in + usage.tokens_out * max(
                self._config.price_out, 0.0
            )
            return usage + Usage(cost_usd=cost / 1e6)
        if cap is not None and run.code not in _NOT_STARTED:
            return usage + Usage(cost_usd=cap)
        if run.code in (0, None) and not self._is_cost_told:
            self._is_cost_told = True
            text = (
                f"`{self._config.command[0]}` does not say what it costs: that is not counted"
                " (set `[proposer] price_in` and `price_out` if it reports tokens)"
            )
            self._notify(Alerted(text=text, about=f"the price of {self.name}"))
        return usage


def _imported(found: Found) -> list[str]:
    """Return the files an agent made that its program imports; all else it left goes with its scratch folder."""
    names = {
        n
        for path, text in found.files.items()
        if path.endswith(".py")
        for n in edits.imported(text)
    }
    return [path for path in found.outside if Path(path).parts[0].removesuffix(".py") in names]


def _ending(run: AgentRun, limit_seconds: float) -> str:
    """Return how a run that failed ended, in words."""
    if run.ended == "time":
        return f"did not finish within {limit_seconds:g} s"
    if run.ended == "output":
        return f"wrote more than {MAX_OUTPUT_MB} MB"
    return f"ended with exit code {run.code}"


_CORRECTED = (Reason.SYNTAX, Reason.TOO_LONG)
"""Refusals after which the files stay as they are, to be corrected."""


def _complaint(refusal: Refusal) -> str:
    state = (
        "The files are as you left them: correct them"
        if refusal.reason in _CORRECTED
        else "The folder is as it was at the beginning: try again"
    )
    return (
        f"\n# Your last attempt was refused\n{refusal.message}. {state}, and write IDEA.md again.\n"
    )
