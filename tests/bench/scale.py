"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """What the options of the command line say."""

    seconds: float = 8.0  # of each load
    minutes: float = 10.0  # that the snapshot is held
