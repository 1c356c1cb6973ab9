"""Settings that travel together, checked where they are made."""
