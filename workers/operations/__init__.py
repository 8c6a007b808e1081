"""The kinds of work, one file each, named in settings.OPERATIONS."""
