"""Local files read with care: regular files only, sound JSON and YAML, paths, the user's cache."""
