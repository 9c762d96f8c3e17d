"""All scenarios, in the order of the page: importing them fills the matrix."""

from failures import network, publishers, redis_server, rest, stream

MODULES = (stream, rest, redis_server, publishers, network)
