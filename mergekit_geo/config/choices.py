"""Words that options admit, where several rooms ask for them."""

OPTIMIZERS = ("adamw", "sgd")
SHARPNESS = ("off", "quick", "full")
"""How much sharpness is measured beside a merge."""
