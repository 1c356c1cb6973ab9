"""Search over recipes: which numbers of a merge, and which method, by loss."""
