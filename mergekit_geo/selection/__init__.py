"""Which point of weight space: chosen by loss, on the selection half alone."""
