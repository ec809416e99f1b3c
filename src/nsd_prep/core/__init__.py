"""What every room uses, and nothing of NSD: errors, checks, files, progress, threads."""
