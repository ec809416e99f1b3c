"""NSD as files: where each lies, what is in it, what is published of it; no network."""
