"""All scenarios, in the order of the page: importing them fills the matrix."""

from failures import behind, floods, network, publishers, redis_server, rest, stream, unusual

MODULES = (stream, rest, redis_server, publishers, network, behind, unusual, floods)
