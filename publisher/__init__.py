"""The publisher service: follows an exchange account and is the only writer of its state in Redis."""
