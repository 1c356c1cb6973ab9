"""What loss means for each kind of model: from rows to examples, and from batches to losses."""
