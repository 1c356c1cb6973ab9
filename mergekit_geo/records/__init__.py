"""What was found, typed: the parts of report.json."""
