"""Small helpers that know nothing of the lab: files, locks, text, statistics."""
