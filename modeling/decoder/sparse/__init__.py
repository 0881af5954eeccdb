"""Sparse evaluation of the detail-capture decoder: only what alpha in the unknown region depends on."""
