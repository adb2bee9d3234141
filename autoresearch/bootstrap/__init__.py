"""Before a night: the presets, the files `init` writes, what `doctor` checks."""
