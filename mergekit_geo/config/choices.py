"""Words that options admit, where several rooms ask for them."""

SHARPNESS = ("off", "quick", "full")
"""How much sharpness is measured beside a merge."""
