"""Who gives a dataset's bytes: a folder, a bucket, a web server."""
