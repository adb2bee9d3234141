"""`python -m autoresearch` is the same as `autoresearch`."""

from autoresearch.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
