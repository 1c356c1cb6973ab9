"""What goes into the linear layers of a model: their inputs' Gram matrices, on the disk."""
