"""One module per page: what `log`, `show`, `diff`, `confirm` and `--json` print."""
