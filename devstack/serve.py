"""``run.py serve``: the whole stack in the foreground."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from devstack.console import Console
from devstack.environment import outside_servers
from devstack.folder import Folder
from devstack.interrupts import Interrupted, Interrupts
from devstack.ports import chosen_port
from devstack.stack import Stack
from devstack.supervisor import Supervisor

if TYPE_CHECKING:
    from pathlib import Path

WATCH_SECONDS = 0.3

CURL = """\
curl -i {base_url}/v1/jobs \\
  -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' -H 'Idempotency-Key: order-1001' \\
  -d '{{"operation": "payments.charge", "params": {{"amount": 1999, "currency": "usd", "source": "tok_visa"}}}}'"""


def serve(*, port: int, data: Path) -> int:
    """Serve until Ctrl-C or SIGTERM, which are a good end: exit code 0. What dies meanwhile is started again."""
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
                _introduce(stack)
                _watch(stack, console)
        except Interrupted:
            pass
    console.say("Stopped.")
    return 0


def _introduce(stack: Stack) -> None:
    state = stack.state()
    admin = state["admin"]
    print(
        f"""
API        {state["base_url"]}
streams    {state["streams_url"]}
API key    {state["api_key"]}   (test mode)
admin      {admin["url"]}   {admin["user"]} / {admin["password"] or "the password that you gave this user"}
provider   {state["provider_url"]}
logs       {stack.folder.logs}
state      {stack.folder.state_file}

Try it, twice; the second answer says Idempotency-Replayed: true:

{CURL.format_map(state)}

Ctrl-C stops everything.
""",
        flush=True,
    )


def _watch(stack: Stack, console: Console) -> None:
    """Whatever dies is started again, as a cluster would, and ``state.json`` follows; until a signal comes."""
    while True:
        time.sleep(WATCH_SECONDS)
        stack.supervisor.check_guardian()
        for name, exit_code in stack.supervisor.revive():
            console.say(f"{name} ended with {exit_code} and was started again; see logs/{name}.log.")
            stack.folder.write_state(stack.state())
