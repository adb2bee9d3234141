"""`autoresearch report`: the session as one file to read, send or print."""
