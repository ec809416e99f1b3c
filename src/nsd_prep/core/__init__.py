"""What every package uses, and nothing of NSD: errors, checks, files, progress, threads."""
