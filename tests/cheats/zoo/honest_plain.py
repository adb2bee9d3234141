"""The model of the zoo as it is.

expect: ok
"""

from base import play

build_model = play(__name__)
