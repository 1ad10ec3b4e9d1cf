"""Reports of whole archives on Ray Data: fixed slices of a listing in, whole shards out. No scheduler of its own."""
