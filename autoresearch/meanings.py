"""What each setting means: the comments of the reference autoresearch.toml, read from it."""

from collections.abc import Iterator
from dataclasses import dataclass

from autoresearch.paths import reference_config


@dataclass(frozen=True)
class Described:
    """One setting of the reference."""

    section: str
    name: str
    default: str
    """As it is written there, `200_000_000`."""
    meaning: str
    """The comment above it; settings that follow one another without a comment share one."""


def described() -> Iterator[Described]:
    """Yield every setting, in the order of the reference."""
    section, comment, is_ended = "", "", True
    for raw in reference_config().read_text(encoding="utf-8").split("\n"):
        line = raw.strip()
        if line.startswith("#"):
            text = line.lstrip("# ")
            comment, is_ended = text if is_ended else f"{comment} {text}", False
        else:
            is_ended = True
        if line.startswith("["):
            section, comment = line.strip("[]"), ""
        elif "=" in line and not line.startswith("#"):
            name, default = (part.strip() for part in line.split("=", 1))
            yield Described(section, name, default, comment)


def meaning_of(key: str) -> str:
    """Return what a setting means, by dotted key; empty for an unknown one."""
    return next((d.meaning for d in described() if f"{d.section}.{d.name}" == key), "")
