"""A report for people: console, model card, page, pictures. Drawn from records alone."""
