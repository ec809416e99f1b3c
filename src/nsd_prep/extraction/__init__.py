"""A session's responses: read, z-scored, kept by content."""
