"""The admin for operators: attention list, search, pauses and bulk actions."""
