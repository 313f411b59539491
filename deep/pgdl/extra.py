"""The packages that only the PGDL archive needs, the extra ``pgdl``."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def required(package: str) -> Any:
    """A package of the extra. Raises ``ValueError`` where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ValueError(
            f"the PGDL archive needs the package {package} ({error}): "
            'pip install "wide-flat-minima[pgdl]"'
        ) from error
