"""From anchors and a rule to merged tensors: the two kernels, and the stream to disk."""
