"""A session in git: journal, branches, working tree."""
