"""Prefect tasks: each is a call into the library, with its name, retries and cache key."""
