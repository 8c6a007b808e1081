"""The engine that runs jobs: claim, perform, settle; sweep and purge."""
