"""A Redis server of this program's own, and children that end with their program."""
