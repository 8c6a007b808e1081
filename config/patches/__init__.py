"""Patches of other libraries, each with its upstream issue."""
