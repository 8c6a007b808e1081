"""`manage.py doctor`: what of a deployment would break a promise, what it means and what to do. It changes nothing."""
