"""The library's steps as Prefect tasks: retries, cache keys, task runners, artifacts."""
