"""Training that ends where the loss is flat: sharpness-aware minimisation (SAM)."""
