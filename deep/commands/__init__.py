"""The commands of ``python -m deep``, one file each."""
