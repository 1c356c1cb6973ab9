"""One YAML schema, of which a mergekit recipe is a case, and what it asks of the workflows."""
