"""The keep rule: pure arithmetic on a session, no clock and no disk."""
