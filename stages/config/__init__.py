"""What all stages share: the typed params.yaml, paths, folders and errors."""
