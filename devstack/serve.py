"""``run.py serve``: run the whole stack in the foreground."""

import time
from pathlib import Path

from devstack.console import Console
from devstack.environment import outside_servers
from devstack.folder import Folder
from devstack.ports import chosen_port
from devstack.stack import Stack
from devstack.stopping import Interrupted, Interrupts
from devstack.supervisor import Supervisor

WATCH_SECONDS = 0.3

CURL = """\
curl -i {base_url}/v1/jobs \\
  -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' -H 'Idempotency-Key: order-1001' \\
  -d '{{"operation": "payments.charge", "params": {{"amount": 1999, "currency": "usd", "source": "tok_visa"}}}}'"""


def serve(*, port: int, data: Path) -> int:
    """Serve until Ctrl-C or SIGTERM, then return 0. A process that ends meanwhile is started again."""
    console = Console()
    api_port = chosen_port(port)
    outside = outside_servers()
    with Interrupts() as interrupts:
        try:
            folder = Folder(data)
            with Supervisor(interrupts, inherits=[folder.lock]) as supervisor:
                supervisor.logs = folder.logs
                supervisor.remove_at_end(folder.state_file)
                stack = Stack(supervisor, folder, console, port=api_port)
                stack.start(outside)
                folder.write_state(stack.state())
                _print_addresses(stack)
                _restart_ended_processes(stack, console)
        except Interrupted:
            pass
    console.print("Stopped.")
    return 0


def _print_addresses(stack: Stack) -> None:
    state = stack.state()
    admin = state["admin"]
    print(
        f"""
API        {state["base_url"]}
streams    {state["streams_url"]}
API key    {state["api_key"]}   (test mode)
admin      {admin["url"]}   {admin["user"]} / {admin["password"] or "the password that you set for this user"}
provider   {state["provider_url"]}
logs       {stack.folder.logs}
state      {stack.folder.state_file}

Run this twice; the second response has the header Idempotency-Replayed: true:

{CURL.format_map(state)}

Ctrl-C stops everything.
""",
        flush=True,
    )


def _restart_ended_processes(stack: Stack, console: Console) -> None:
    """Restart what ends, as a cluster would, and update ``state.json``, until a signal arrives."""
    while True:
        time.sleep(WATCH_SECONDS)
        stack.supervisor.check_cleanup_process()
        for name, exit_code in stack.supervisor.restart_ended():
            console.print(f"{name} ended with exit code {exit_code} and was started again; see logs/{name}.log.")
            stack.folder.write_state(stack.state())
