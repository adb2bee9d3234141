"""What proposes experiments: an LLM, a coding agent, a classical optimiser, a person."""
