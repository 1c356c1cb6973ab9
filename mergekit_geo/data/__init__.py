"""Rows of data: built-in text, files, saved datasets, the Hub."""
