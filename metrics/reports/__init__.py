"""Reports of an evaluation as a table, JSON, CSV and HTML, and comparisons of several reports."""
