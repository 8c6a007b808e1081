"""What templates of the admin may ask jobs."""
