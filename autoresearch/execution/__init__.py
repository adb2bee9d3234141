"""Where trials run: the executor protocol and the one for this machine."""
