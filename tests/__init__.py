"""Behaviours, by kind of promise."""
