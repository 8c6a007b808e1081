"""What a report shows of the tenant's jobs and charges, and the files that show it: a row at a time, never all of them."""
