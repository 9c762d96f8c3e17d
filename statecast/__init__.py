"""What publisher and traders share: the domain, the store in Redis, the venues, and an exchange to try them on."""
