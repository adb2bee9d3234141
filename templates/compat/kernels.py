"""Stands in for the `kernels` package, which downloads: `flash_attn_func` by the lab's attention."""

import types

from autoresearch.trial.child.compat import flash_attn_func


def get_kernel(*_names, **_options):
    interface = types.SimpleNamespace(flash_attn_func=flash_attn_func)
    return types.SimpleNamespace(flash_attn_interface=interface, flash_attn_func=flash_attn_func)
