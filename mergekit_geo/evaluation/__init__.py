"""Losses of examples at points of weight space, and what they tell: statistics, halves, cache."""
