"""The doctor: system checks of a whole deployment, its servers included. They change nothing."""
