"""Tools of all packages: files, run folders, tables, tasks, downloads, checks, commands."""
