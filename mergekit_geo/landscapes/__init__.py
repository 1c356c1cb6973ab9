"""The loss on planes in weight space: directions that can be compared, and grids."""
