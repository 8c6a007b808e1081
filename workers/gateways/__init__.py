"""Clients of services that are not ours: the only places that talk to them."""
