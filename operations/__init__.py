"""The operations of this deployment, named in settings.OPERATIONS."""
