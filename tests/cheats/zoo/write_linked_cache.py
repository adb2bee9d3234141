"""Puts a link to what it may not read where its compile cache is copied from.

expect: ok
"""

import os
import shutil

from base import play
from known import SECRETS


def link(trial):
    folder = os.path.dirname(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    shutil.rmtree(folder, ignore_errors=True)
    os.symlink(os.path.dirname(SECRETS[0]), folder)


build_model = play(__name__, before_start=link)
