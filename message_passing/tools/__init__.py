"""What all packages share: files, run folders, tables, tasks, downloads, checks, commands."""
