"""What runs jobs: publisher, executor, effects, heartbeat, sweeper."""
