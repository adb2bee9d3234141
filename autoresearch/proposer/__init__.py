"""What proposes experiments: an LLM, a coding agent, a classical optimiser, an edit by hand."""
