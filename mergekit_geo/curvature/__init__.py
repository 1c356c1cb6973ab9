"""How curved the loss is where a model stands: products, eigenvalues, trace, ascent."""
