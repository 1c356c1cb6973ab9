"""One file per command: the public functions, composed of the rooms below."""
