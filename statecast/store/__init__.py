"""Redis: the contract's keys and fields, and the shells that speak them."""
