"""Sparse evaluation of the detail-capture decoder: only the values that alpha in the unknown region depends on."""
