"""What was measured, typed and versioned, and the pages drawn from it."""
