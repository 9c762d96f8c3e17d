"""What traders import to read an account's state from Redis."""
