"""Words that an option admits, where several rooms ask for them."""

SHARPNESS = ("off", "quick", "full")
"""How much sharpness is measured."""
