"""The HTTP face of jobs: views that parse, call one service and render."""
