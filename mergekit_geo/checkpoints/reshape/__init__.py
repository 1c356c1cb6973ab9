"""Models made to fit one architecture and one vocabulary by views that read through to them."""
