"""Tasks: what a trial is and how it is scored."""
