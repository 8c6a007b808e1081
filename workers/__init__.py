"""What runs jobs: executor, effects, heartbeat, sweeper."""
