"""A classical optimiser as proposer: it moves the constants of train.py."""
