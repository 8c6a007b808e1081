"""The yardsticks: services that others would build or pick instead. They run in an environment without Semel."""
