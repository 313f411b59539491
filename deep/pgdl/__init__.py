"""Trained networks of the PGDL competition, and Figure 7 of [P21] from them."""

from deep.pgdl.archive import PUBLIC_ARCHIVE, open_archive
from deep.pgdl.keras_networks import build_network, load_weights
from deep.pgdl.task import PgdlTask

__all__ = ["PUBLIC_ARCHIVE", "PgdlTask", "build_network", "load_weights", "open_archive"]
