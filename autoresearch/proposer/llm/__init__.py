"""A language model as proposer: the prompt is asked through litellm."""
