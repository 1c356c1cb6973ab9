"""Weights on disk, on the Hub and in memory: references, readers, names, compatibility."""
