"""Trained networks of the PGDL competition, and Figure 7 of [P21] from them."""
