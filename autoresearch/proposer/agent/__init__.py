"""A coding agent as proposer: its command line, its scratch folder, its process."""
