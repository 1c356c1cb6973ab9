"""A back end that draws by matplotlib, for files."""
