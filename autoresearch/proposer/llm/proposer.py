"""The `llm` proposer: one fresh conversation for each experiment, repaired a few times if need be.

The prompt is built each time from the record (`prompt.py`), the answer is parsed and applied strictly (`answers.py`)
and checked (`edits.py`); the model gets what is wrong, at most `MAX_ROUNDS` times. Errors of the
provider are met as `errors.py` says.
"""

import random
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from autoresearch.config import ProposerConfig
from autoresearch.errors import AutoresearchError, PrerequisiteError
from autoresearch.events import Alerted
from autoresearch.proposer import base, edits
from autoresearch.proposer import cost as money
from autoresearch.proposer.answers import Answer, AnswerError, apply_answer, clean, parse_answer
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    EditFailedError,
    Notify,
    ProposerUnavailableError,
    ignore_alert,
)
from autoresearch.proposer.edits import make_proposal
from autoresearch.proposer.llm.errors import MAX_SHRINKS, PAUSE_SECONDS, wait_seconds
from autoresearch.proposer.llm.provider import Provider, ProviderError, StoppedError
from autoresearch.proposer.prompt import Limits, Preview, Prompt, build_prompt, minimal
from autoresearch.types import Proposal, Usage

MAX_FAILED_ANSWERS = 10
"""So many useless answers in a row pause the model."""
_CHECK_SECONDS = 60.0
_CHECK_TOKENS = 1024
"""Room for a model that thinks before it says its one word."""


@dataclass
class _Talk:
    """One conversation about one experiment."""

    context: Context
    prompt: Prompt
    limits: Limits
    messages: list[dict[str, Any]]
    usage: Usage = field(default_factory=Usage)
    replies: list[str] = field(default_factory=list)
    answer: Answer = field(default_factory=Answer)
    num_shrinks: int = 0


class LlmProposer:
    """Asks a model through litellm.

    Args:
        config: `[proposer]`.
        ledger: Shared by all that spend money in this process.
        notify: Told of an unknown price.
    """

    kind = "llm"

    def __init__(
        self,
        config: ProposerConfig,
        ledger: money.Ledger | None = None,
        notify: Notify = ignore_alert,
    ) -> None:
        self._config = config
        self.provider = Provider(config)
        self.name = f"`{config.model}`"
        self._ledger = ledger or money.Ledger()
        self._notify = notify
        self._num_failures = 0
        self._num_failed_answers = 0
        self._first_contact = Usage()
        self._is_price_told = False
        self._rng = random.SystemRandom()

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Return a proposal; see `Proposer.propose`.

        Raises:
            EditFailedError: no answer could be used, after all rounds.
            ProposerUnavailableError: the provider cannot be asked now.
            CostLimitError: the next call could pass `--max-cost`.
            CancelledError: `stop` was set.
        """
        talk = self._start(context, Limits(self.provider.max_prompt))
        talk.usage, self._first_contact = (
            self._first_contact,
            Usage(),
        )  # Booked with the first idea.
        self._tell_unknown_price()
        for rounds_left in range(base.MAX_ROUNDS, -1, -1):
            text, is_cut = self._ask(talk, stop)
            result = self._read(talk, text, is_cut)
            if isinstance(result, Proposal):
                self._num_failed_answers = 0
                return result
            if not rounds_left:
                raise self._useless(talk, result)
            talk.messages += [
                {"role": "assistant", "content": text or "(empty)"},
                {"role": "user", "content": _complaint(result.message)},
            ]
        raise AssertionError("unreachable")

    def preview(self, context: Context) -> Preview:
        """Return the prompt that `propose` would send first; see `Proposer.preview`."""
        prompt = build_prompt(context, Limits(self.provider.max_prompt), self.provider.count)
        most = self.provider.most(prompt.messages(is_marked=False), self.provider.max_output)
        return Preview(self.kind, prompt, most)

    def check(self) -> str:
        """Ask for one word and say what answered.

        Raises:
            PrerequisiteError: no model is named, a key is missing or refused, or the model cannot be used.
            ProposerUnavailableError: the call failed in a way that is waited for.
        """
        if not self.provider.model:
            raise PrerequisiteError(
                "`[proposer] model` is empty",
                hint='name a model in autoresearch.toml, `model = "provider/name"`',
                kind="proposer",
            )
        missing = self.provider.key_names()
        if missing:
            names = " or ".join(f"`{name}`" for name in missing)
            raise PrerequisiteError(
                f"{names} is not set, `{self.provider.model}` needs it",
                hint=f"`export {missing[0]}=...`, or name another variable in `[proposer] api_key_env`",
                kind="proposer",
            )
        began = time.monotonic()
        messages = [{"role": "user", "content": "Answer with the word OK."}]
        try:
            reply = self.provider.ask(
                messages,
                threading.Event(),
                max_output=_CHECK_TOKENS,
                timeout_seconds=min(_CHECK_SECONDS, self._config.timeout_seconds),
            )
        except ProviderError as exc:
            self._first_contact = exc.usage
            hint = self.provider.hint(exc.fault) or None
            if exc.fault.action == "wait":
                wait = wait_seconds(1, exc.retry_after, self._rng)
                raise ProposerUnavailableError(
                    self._sentence(exc), hint=hint, retry_seconds=wait
                ) from exc
            raise PrerequisiteError(self._sentence(exc), hint=hint, kind="proposer") from exc
        self._first_contact = reply.usage
        price = self.provider.price
        cost = reply.usage.cost_usd
        paid = f"${cost:.6f}" if price is not None and cost is not None else "price unknown"
        return f"llm: `{self.provider.model}` answered in {time.monotonic() - began:.1f} s ({paid})"

    # -- the conversation ---------------------------------------------------------------------

    def _start(self, context: Context, limits: Limits) -> _Talk:
        prompt = build_prompt(context, limits, self.provider.count)
        messages = prompt.messages(is_marked=self.provider.is_cache_marked)
        return _Talk(context, prompt, limits, messages)

    def _ask(self, talk: _Talk, stop: threading.Event) -> tuple[str, bool]:
        """Make one call, with shorter or simpler prompts where the provider wants them."""
        while True:
            if stop.is_set():
                raise CancelledError("the session ended", usage=talk.usage)
            most = self.provider.most(talk.messages, self.provider.max_output)
            try:
                with self._ledger.reserve(most, talk.context.cost_left_usd, talk.usage):
                    reply = self.provider.ask(talk.messages, stop)
            except StoppedError as exc:
                usage = talk.usage + exc.usage
                raise CancelledError("the session ended", usage=usage) from exc
            except ProviderError as exc:
                talk.usage = talk.usage + exc.usage
                if self._adapt(talk, exc):
                    continue
                raise self._unavailable(talk, exc) from exc
            self._num_failures = 0
            talk.usage = talk.usage + reply.usage
            talk.replies.append(reply.text)
            return reply.text, reply.is_cut

    def _adapt(self, talk: _Talk, error: ProviderError) -> bool:
        """Make the prompt shorter or simpler after a fault that asks for it; False if it cannot be."""
        action = error.fault.action
        if action == "shrink" and talk.num_shrinks <= MAX_SHRINKS:
            talk.num_shrinks += 1
            if talk.num_shrinks <= MAX_SHRINKS:
                share = talk.limits.history_share / 2
                self._rebuild(talk, replace(talk.limits, history_share=share))
            else:
                talk.context = minimal(talk.context)
                self._rebuild(talk, replace(talk.limits, has_logs=False))
            return True
        if action == "simplify" and talk.limits.has_logs:
            self._rebuild(talk, replace(talk.limits, has_logs=False))
            return True
        return False

    def _rebuild(self, talk: _Talk, limits: Limits) -> None:
        fresh = self._start(talk.context, limits)
        talk.limits, talk.prompt, talk.messages = limits, fresh.prompt, fresh.messages

    def _read(self, talk: _Talk, text: str, is_cut: bool) -> "Proposal | edits.Refusal":
        """Make a proposal of an answer, or say what is wrong with it."""
        context = talk.context
        try:
            talk.answer = parse_answer(text, list(context.files))
            files = apply_answer(talk.answer, context.files)
        except AnswerError as exc:
            cut = (
                "the answer was cut off at its longest: give fewer, shorter blocks\n\n"
                if is_cut
                else ""
            )
            return edits.Refusal("edit_failed", f"{cut}{exc}")
        refusal = edits.check_change(context, files)
        return refusal or make_proposal(
            "llm",
            context,
            files,
            talk.answer.headings,
            talk.usage,
            self._attachments(talk),
            self.provider.model,
        )

    def _attachments(self, talk: _Talk) -> dict[str, bytes]:
        table = "".join(f"- {p.name}: {p.num_tokens} tokens\n" for p in talk.prompt.parts)
        rounds = [f"## Answer {i}\n\n{text}\n" for i, text in enumerate(talk.replies, 1)]
        said = [
            f"## Told after answer {i}\n\n{m['content']}\n"
            for i, m in enumerate((m for m in talk.messages[2:] if m["role"] == "user"), 1)
        ]
        mixed = [
            part
            for pair in zip(rounds, [*said, *[""] * len(rounds)], strict=False)
            for part in pair
        ]
        reply = "\n".join(part for part in mixed if part)
        return {
            "prompt.md": talk.prompt.text.encode("utf-8", "replace"),
            "prompt_tokens.md": table.encode(),
            "reply.md": reply.encode("utf-8", "replace"),
        }

    # -- when it does not work ----------------------------------------------------------------

    def _useless(self, talk: _Talk, refusal: edits.Refusal) -> AutoresearchError:
        self._num_failed_answers += 1
        if self._num_failed_answers >= MAX_FAILED_ANSWERS:
            self._num_failed_answers = 0
            return ProposerUnavailableError(
                f"`{self.provider.model}` gave {MAX_FAILED_ANSWERS} answers in a row that cannot be tried,"
                f" the last: {clean(refusal.message, 200)}",
                hint="name a stronger model in `[proposer] model`",
                retry_seconds=PAUSE_SECONDS,
                usage=talk.usage,
            )
        proposal = make_proposal(
            "llm",
            talk.context,
            dict(talk.context.files),
            {"description": f"unusable answer: {refusal.message}", **talk.answer.headings},
            talk.usage,
            self._attachments(talk),
            self.provider.model,
        )
        reason = "edit_failed" if refusal.reason == "syntax" else refusal.reason
        return EditFailedError(clean(refusal.message, 400), reason=reason, proposal=proposal)

    def _unavailable(self, talk: _Talk, error: ProviderError) -> ProposerUnavailableError:
        self._num_failures += 1
        wait = PAUSE_SECONDS
        if error.fault.action == "wait":
            wait = wait_seconds(self._num_failures, error.retry_after, self._rng)
        return ProposerUnavailableError(
            self._sentence(error),
            hint=self.provider.hint(error.fault) or None,
            retry_seconds=wait,
            usage=talk.usage,
        )

    def _sentence(self, error: ProviderError) -> str:
        sentence = error.fault.sentence.format(model=self.provider.model)
        return f"{sentence}: {error}" if str(error) else sentence

    def _tell_unknown_price(self) -> None:
        if self.provider.price is None and not self._is_price_told:
            self._is_price_told = True
            text = (
                f"the price of `{self.provider.model}` is not known: tokens are counted, `--max-cost` is not kept"
                " (set `[proposer] price_in` and `price_out`)"
            )
            self._notify(Alerted(text=text))


def _complaint(message: str) -> str:
    return (
        f"Your answer cannot be used:\n\n{message}\n\nAnswer again in full, in the same format: all headings and all"
        " blocks, against the file as shown at the beginning."
    )
