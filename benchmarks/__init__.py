"""How much the kit costs: each block against the same endpoint written by hand."""
