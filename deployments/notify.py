"""Post a message to a webhook whenever a run of the flow fails or crashes.

Run ``python deployments/notify.py --help``.
"""

from __future__ import annotations

import argparse
import re
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from nsd_prep.core.errors import NSDPrepError
from nsd_prep.flows.server import require_server

if TYPE_CHECKING:
    from prefect.automations import Automation

_BLOCK: Final = "nsd-prep-failures"
_NAME: Final = "nsd-prep: a run failed or crashed"
#: A template of Prefect's; JSON with one field, as the webhooks of chat services take it.
_MESSAGE: Final = """\
{"text": {{ ("Run " ~ flow_run.name ~ (" of " ~ deployment.name if deployment else "") ~ ": "
~ flow_run.state.name ~ ". " ~ flow_run.state.message ~ " PAGES/runs/flow-run/" ~ flow_run.id)
| tojson }}}"""


def notify(url: str) -> Automation:
    """Set up the automation, in place of the one of an earlier call.

    Messages link to the run's page as PREFECT_UI_URL, or else PREFECT_API_URL, names the pages: the
    server itself may not know by which address people reach it.

    Parameters
    ----------
    url : str
        Where the message is posted; kept by the server in a block.

    Returns
    -------
    Automation
        As the server keeps it.
    """
    from prefect.automations import Automation
    from prefect.blocks.webhook import Webhook
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.settings import PREFECT_UI_URL
    from prefect.types import SecretDict

    message = _MESSAGE.replace("PAGES", str(PREFECT_UI_URL.value()).rstrip("/"))
    webhook = Webhook(url=SecretStr(url), headers=SecretDict({"Content-Type": "application/json"}))
    # Prefect's types leave open whether these are coroutines, as they are among coroutines.
    block = cast("UUID", webhook.save(_BLOCK, overwrite=True))
    automation = Automation(
        name=_NAME,
        description="Posts why a run did not complete.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": "nsd-prep"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[CallWebhook(block_document_id=block, payload=message)],
    )
    with suppress(ValueError):  # there is none
        cast("Automation", Automation.read(name=_NAME)).delete()
    return cast("Automation", automation.create())


def is_address(url: str) -> bool:
    """Return whether a message can be posted to an address."""
    try:
        address = urlsplit(url)
        _ = address.port  # an error where it is no number
    except ValueError:
        return False
    is_plain = not re.search(r"[\s\x00-\x1f]", url)
    return address.scheme in ("http", "https") and bool(address.hostname) and is_plain


def main() -> None:
    """Set up the automation at the server that PREFECT_API_URL names."""
    command = argparse.ArgumentParser(
        prog="notify.py",
        description="Let Prefect's server post a message to a webhook whenever a run of nsd-prep "
        "fails or crashes: JSON with the field 'text', which Slack and Mattermost "
        "accept. Running it again replaces the address. Needs a server: give its "
        "address in PREFECT_API_URL.",
    )
    command.add_argument("url", help="address of the webhook")
    arguments = command.parse_args()
    if not is_address(arguments.url):
        command.error(
            f"{arguments.url!r} is not a webhook address: give one like https://HOST/PATH"
        )
    try:
        require_server()
    except NSDPrepError as error:
        raise SystemExit(f"error: {error}") from None
    automation = notify(arguments.url)
    print(f"The automation {automation.name!r} is set up.")  # noqa: T201


if __name__ == "__main__":
    main()
