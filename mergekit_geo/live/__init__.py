"""A blend in a running module: loading models, moving them through weight space, BatchNorm."""
