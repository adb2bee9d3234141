"""How a trial becomes a number: claim, audit and score."""
