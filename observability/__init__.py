"""What a running Semel tells of itself: log lines and figures. The packages announce facts by signals and know nothing of it."""
