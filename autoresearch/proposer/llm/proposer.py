"""The `llm` proposer: one fresh conversation for each experiment, repaired a few times if need be.

The prompt is built each time from the record (`prompt.py`), the answer is parsed and applied strictly (`answers.py`)
and checked (`edits.py`); the model gets what is wrong, at most `MAX_ROUNDS` times. Errors of the
provider are met as `errors.py` says.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoresearch.config import ProposerConfig
from autoresearch.errors import PrerequisiteError
from autoresearch.events import Alerted
from autoresearch.proposer import base, edits
from autoresearch.proposer import cost as money
from autoresearch.proposer.answers import (
    Answer,
    AnswerError,
    NoAnswerError,
    apply_answer,
    parse_answer,
)
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    Notify,
    ProposerUnavailableError,
    Refusal,
    Streak,
    ignore_alert,
    is_over,
    refuse,
)
from autoresearch.proposer.edits import make_proposal
from autoresearch.proposer.llm.errors import MAX_SHRINKS, PAUSE_SECONDS, TABLE
from autoresearch.proposer.llm.provider import (
    Provider,
    ProviderError,
    Reply,
    StoppedError,
    is_local,
)
from autoresearch.proposer.prompt import Limits, Preview, Prompt, build_prompt, minimal
from autoresearch.types import Proposal, Reason, Usage

_CHECK_SECONDS = 60.0
_CHECK_TOKENS = 1024
"""Room for a model that thinks before it says its one word."""


_EMPTY = {
    "length": "thinking used up all {most} output tokens before the answer began: think less, answer at once",
    "content_filter": "the provider withheld the answer: its content filter stopped it",
    "tool_calls": "you called a tool, but there are none: answer in text",
}
"""Why an answer ended -> what is said where it holds no word."""
_CUT = {
    "length": "the answer was cut off at its longest: give fewer, shorter blocks\n\n",
    "content_filter": "the answer was cut off by the provider's content filter: say it in other words\n\n",
}
"""Why an answer ended -> what is said of one that may lack its end."""


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
        self._streak = Streak(self.name, "name a stronger model in `[proposer] model`")
        self._first_contact = Usage()
        self._is_price_told = False

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Return a proposal; see `Proposer.propose`.

        Raises:
            EditFailedError: no answer could be used, after all rounds.
            ProposerUnavailableError: the provider cannot be asked now, or answers with nothing.
            CostLimitError: the next call could pass `--max-cost`.
            CancelledError: `stop` was set.
        """
        talk = self._start(context, Limits(self.provider.max_prompt))
        talk.usage, self._first_contact = (
            self._first_contact,
            Usage(),
        )  # Booked with the first idea.
        self._tell_unknown_price()
        last: Refusal | None = None
        for rounds_left in range(base.MAX_ROUNDS, -1, -1):
            reply = self._ask(talk, stop)
            result = self._read(talk, reply)
            if isinstance(result, Proposal):
                self._streak.end()
                return result
            if is_over(last, result, rounds_left):
                said = {"description": f"unusable answer: {result.message}", **talk.answer.headings}
                files = dict(talk.context.files)
                hint = "raise `[proposer] max_output_tokens`" if reply.ending == "length" else None
                raise self._streak.useless(result, self._proposal(talk, files, said), hint)
            last = result
            talk.messages += [
                {"role": "assistant", "content": reply.text or "(empty)"},
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
        self.provider.check_here()
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
            failure = self._unavailable(exc, exc.usage)
            if exc.fault.action == "wait":
                is_unconnected = exc.fault is TABLE["APIConnectionError"]
                failure.is_not_started = is_unconnected and is_local(self._config)
                raise failure from exc
            raise PrerequisiteError(failure.message, hint=failure.hint, kind="proposer") from exc
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

    def _ask(self, talk: _Talk, stop: threading.Event) -> Reply:
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
                raise self._unavailable(exc, talk.usage, has_answers=bool(talk.replies)) from exc
            talk.usage = talk.usage + reply.usage
            talk.replies.append(reply.text)
            return reply

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
            said = talk.messages[2:]
            self._rebuild(talk, replace(talk.limits, has_logs=False))
            talk.messages += said
            return True
        return False

    def _rebuild(self, talk: _Talk, limits: Limits) -> None:
        fresh = self._start(talk.context, limits)
        talk.limits, talk.prompt, talk.messages = limits, fresh.prompt, fresh.messages

    def _read(self, talk: _Talk, reply: Reply) -> Proposal | Refusal:
        """Make a proposal of an answer, or say what is wrong with it."""
        context, most = talk.context, self.provider.max_output
        if not reply.text.strip():
            said = _EMPTY.get(reply.ending, "the answer is empty")
            return refuse(Reason.NO_ANSWER, problem=said.format(most=most))
        cut = _CUT.get(reply.ending, "")
        try:
            talk.answer = parse_answer(reply.text, list(context.files))
            files = apply_answer(talk.answer, context.files)
        except NoAnswerError as exc:
            return refuse(Reason.NO_ANSWER, problem=f"{cut}{exc}")
        except AnswerError as exc:
            return refuse(Reason.EDIT_FAILED, problem=f"{cut}{exc}")
        if cut:
            return refuse(Reason.EDIT_FAILED, problem=cut.strip())
        refusal = edits.check_change(context, files)
        return refusal or self._proposal(talk, files, talk.answer.headings)

    def _proposal(
        self, talk: _Talk, files: Mapping[str, str], headings: Mapping[str, str]
    ) -> Proposal:
        model, attachments = self.provider.model, self._attachments(talk)
        return make_proposal("llm", talk.context, files, headings, talk.usage, attachments, model)

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

    def _unavailable(
        self, error: ProviderError, usage: Usage, *, has_answers: bool = False
    ) -> ProposerUnavailableError:
        fault, said = error.fault, str(error)
        wait = PAUSE_SECONDS
        if fault.action == "wait":
            is_paid = fault.is_billed or has_answers
            wait = self._streak.wait(usage.num_calls if is_paid else 0, error.retry_after)
        sentence = fault.sentence.format(model=self.provider.model)
        return ProposerUnavailableError(
            f"{sentence}: {said}" if said else sentence,
            hint=self.provider.hint(fault, said) or None,
            retry_seconds=wait,
            usage=usage,
        )

    def _tell_unknown_price(self) -> None:
        if self.provider.price is None and not self._is_price_told:
            self._is_price_told = True
            text = (
                f"the price of `{self.provider.model}` is not known: only tokens are counted"
                " (set `[proposer] price_in` and `price_out`)"
            )
            self._notify(Alerted(text=text, about=f"the price of {self.name}"))


def _complaint(message: str) -> str:
    return (
        f"Your answer cannot be used:\n\n{message}\n\nAnswer again in full, in the same format: all headings and all"
        " blocks, against the file as shown at the beginning."
    )
