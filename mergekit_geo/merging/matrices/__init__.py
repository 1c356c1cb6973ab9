"""Merging task matrices whole: what has singular vectors or solves a system."""
