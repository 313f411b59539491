"""``compiled``: numba's njit for the kernels of all packages."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing import parent_process
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """``numba.njit`` without the GIL and with a cache on disk.

    ``options`` go to ``numba.njit``. The cache is in the module's folder or in the user's cache
    folder. If neither can be written, kernels compile anew in every process, and one warning says
    so.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            _warn_once()
            return njit(nogil=True, **options)(function)

    return decorate if function is None else decorate(function)


@cache
def _warn_once() -> None:
    if parent_process() is None:
        warnings.warn(
            "The compiled kernels cannot be cached: neither the package's folder nor the user's "
            "cache can be written. They compile anew in every process. Set NUMBA_CACHE_DIR to a "
            "folder that can be written.",
            stacklevel=2,
        )
