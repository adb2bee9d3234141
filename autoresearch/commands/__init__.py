"""One file a verb: options, one call of the core, one call of the ui."""
