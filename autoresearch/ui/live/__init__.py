"""What a terminal shows while a session runs."""
