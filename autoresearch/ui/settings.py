"""Prints the configuration with the source of each value."""

from autoresearch.config import Loaded
from autoresearch.ui.console import OutputMode


def print_settings(mode: OutputMode, loaded: Loaded) -> None:
    """Print one line a setting on stdout: `key = value`, and where it came from."""
    values = {
        f"{section}.{name}": value
        for section, table in loaded.config.model_dump().items()
        for name, value in table.items()
    }
    if mode.is_json:
        mode.json(
            {
                key: {"value": value, "source": loaded.sources.get(key, "default")}
                for key, value in values.items()
            }
        )
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        source = loaded.sources.get(key, "default")
        mode.data(f"{key:<{width}}  {value!r:<40}  {source}")
