"""A back end that makes figures of plotly.js, for pages."""
