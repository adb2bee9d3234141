"""Pieces of styled text."""

from rich.text import Text


def styled(text: str, style: str = "") -> Text:
    """Return text of which this piece has a style; what is appended does not inherit it."""
    return Text().append(text, style=style or None)
