"""Trains at a quarter of the context it is judged at.

expect: ok
"""

from base import play

build_model = play(__name__, length=16)
