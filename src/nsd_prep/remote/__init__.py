"""Reading NSD where it lies: the voxels of a run straight from a bucket or a web server.

Of a session's betas only the chunks of the voxels that are wanted are fetched. `chunk_places`
predicts where they lie, `ranges` merges them into requests, `client` fetches them, and HDF5 finds
the chunks itself, in the file's own index, through `sparse_file`, which raises on any byte that was
not fetched.
"""
