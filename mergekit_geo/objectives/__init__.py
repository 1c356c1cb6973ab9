"""What loss means: text, token windows, per-example losses, and intervals for their differences."""
