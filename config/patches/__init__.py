"""Patches of other libraries, each with the upstream issue that it answers."""
