"""The `geo-merge` command: parse, call one workflow, print. No logic."""
