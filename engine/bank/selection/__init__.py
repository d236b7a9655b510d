"""The descriptions that have most to do with their action."""
