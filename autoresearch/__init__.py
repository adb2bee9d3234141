"""autoresearch: turns one GPU into an overnight research lab."""

__version__ = "0.1.0"
