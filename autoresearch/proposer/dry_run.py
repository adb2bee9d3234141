"""What a proposer would be asked next, without asking: for `run --dry-run`."""

from dataclasses import dataclass

from autoresearch.proposer.base import Context, Proposer
from autoresearch.proposer.fallback import Mixed, WithFallback
from autoresearch.proposer.prompt import Prompt


@dataclass(frozen=True)
class Preview:
    """Who proposes next and what it is told."""

    kind: str
    prompt: Prompt | None
    """None for a proposer that reads no prompt."""
    most_usd: float | None = None
    """The most the first call can cost; None when nobody knows."""

    def lines(self) -> list[str]:
        """Return the exact prompt, then its tokens by part, as lines of text."""
        if self.prompt is None:
            return [f"`{self.kind}` proposes next; it reads the record and has no prompt"]
        width = max(len(part.name) for part in self.prompt.parts)
        table = [
            f"{part.name:<{width}}  {part.num_tokens:>7}  {'stable' if part.is_stable else ''}".rstrip()
            for part in self.prompt.parts
        ]
        total = f"{'total':<{width}}  {self.prompt.num_tokens:>7}"
        cost = [] if self.most_usd is None else [f"at most ${self.most_usd:.4f} for the first call"]
        return [*self.prompt.text.splitlines(), "", "tokens by part:", *table, total, *cost]

    def to_json(self) -> dict[str, object]:
        """Return the same as JSON values."""
        parts = [] if self.prompt is None else [vars(part) for part in self.prompt.parts]
        return {
            "proposer": self.kind,
            "num_tokens": self.prompt.num_tokens if self.prompt else None,
            "most_usd": self.most_usd,
            "parts": parts,
        }


def preview(proposer: Proposer, context: Context) -> Preview:
    """Return what `proposer` would be asked for this context; spends nothing and starts nothing."""
    from autoresearch.proposer.agent.proposer import CommandProposer
    from autoresearch.proposer.llm.proposer import LlmProposer

    if isinstance(proposer, Mixed):
        proposer = proposer.members[proposer.draw(context.session.seed, context.number)]
    if isinstance(proposer, WithFallback):
        proposer = proposer.first
    if isinstance(proposer, LlmProposer):
        prompt = proposer.prompt_for(context)
        provider = proposer.provider
        most = provider.most(prompt.messages(is_marked=False), provider.max_output)
        return Preview("llm", prompt, most)
    if isinstance(proposer, CommandProposer):
        return Preview("command", proposer.prompt_for(context))
    return Preview(proposer.kind, None)
