"""The part of a trial that runs inside the sandbox; nothing here imports the lab."""
