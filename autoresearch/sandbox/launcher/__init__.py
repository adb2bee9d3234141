"""Starts one child inside a sandbox and stays as its keeper; `launch` of `keeper.py` says how it is run.

Stands alone: the standard library and ctypes, nothing of the rest of the package, because it also runs inside the
sandbox, before and between things that must not be trusted. It is imported as `launcher`, by an interpreter without
site-packages, and nothing in it imports what is slow: json, re, enum and pathlib together would be two thirds of the
start. From the top: `main` reads what is to be done, `keep` watches the child, `inside` gives up rights, `broker`
answers the calls that Landlock cannot judge, `groups` are control groups, `processes` and `folders` count and clear
away, `kernel` holds the calls that Python has no name for.

Trade-offs: disk and memory are watched four times a second where no quota and no control group
exist, so a child may overshoot for that long; a keeper killed with SIGKILL leaves grandchildren to the
lab's own supervisor.
"""
