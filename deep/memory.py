"""Memory that a training step frees is kept for the next one (glibc only)."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed, for the rest of this process; returns whether it does.

    By default glibc gives the activations of a step back to the kernel, which has to clear the
    same pages for the next step: up to a fifth of the time of SmallConvNet. Only a program should
    ask for this, since the process then never shrinks; without glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1
