"""What an evaluation is written as: a table, JSON, CSV, a page of HTML; and comparisons of several."""
