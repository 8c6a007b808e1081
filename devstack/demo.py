"""``run.py demo``: run the scenarios against a real stack and count their effects from outside."""

import http.client
from collections.abc import Sequence
from dataclasses import asdict

from devstack.console import Console, LauncherError
from devstack.demo_client import DemoClient, Result
from devstack.demo_settings import DEMO_SETTINGS
from devstack.environment import forget_outside_servers
from devstack.folder import Folder
from devstack.ports import free_port
from devstack.scenarios import SCENARIOS
from devstack.stack import Stack
from devstack.stopping import Interrupted, Interrupts
from devstack.supervisor import Supervisor

HEADINGS = ("scenario", "requests", "jobs", "charges", "replays", "as expected")


def demo() -> int:
    """Return 0 if every number is as expected. In any case everything is stopped and removed."""
    console = Console()
    forget_outside_servers()
    with Interrupts() as interrupts:
        try:
            with Supervisor(interrupts) as supervisor:
                console.print("Starting PostgreSQL, Valkey and Semel in a temporary folder.")
                folder = Folder(supervisor.scratch / "data")
                stack = Stack(supervisor, folder, console, port=free_port(), overrides=DEMO_SETTINGS)
                stack.start(outside=None)
                results = _run_scenarios(DemoClient(stack, console))
        except Interrupted as interrupted:
            console.print("Stopped before the end.")
            return interrupted.exit_code
    is_right = all(result.is_right for result in results)
    console.print("Everything is stopped and removed.")
    verdict = "Every number is as expected." if is_right else "Not every number is as expected."
    print(f"\n{table(results)}\n\n{verdict}", flush=True)
    return 0 if is_right else 1


def _run_scenarios(client: DemoClient) -> list[Result]:
    try:
        results = [scenario(client) for scenario in SCENARIOS]
        return [*results, client.total(results)]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise LauncherError(f"The demo failed: {type(error).__name__}: {error}") from error


def table(results: Sequence[Result]) -> str:
    """Return the results in columns: text to the left, numbers to the right, and what differs from the expectation."""
    rows = [HEADINGS, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for first, *numbers, last in rows:
        padded = [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded, last]))
    return "\n".join(lines)


def _cells(result: Result) -> tuple[str, ...]:
    counted, expected = asdict(result.counted), asdict(result.expected)
    wrong = [f"{name} {number}, not {counted[name]}" for name, number in expected.items() if counted[name] != number]
    return (result.scenario, *map(str, counted.values()), "; ".join([*wrong, *result.problems]) or "yes")
