"""Files as the project reads and writes them: atomic replacement, manifests and their index, audio."""
