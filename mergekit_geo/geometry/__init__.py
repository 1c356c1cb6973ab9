"""Pure maths on Gram matrices and coefficients. No files, no models, no torch."""
