"""What operators see and do: the admin, attention list, search, pauses, bulk actions."""
