"""Post a message to a webhook whenever a run of the flow fails or crashes.

Run ``python deployments/notify.py --help``.
"""

import argparse
from datetime import timedelta
from typing import Final

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import EventTrigger, Posture

_BLOCK: Final = "nsd-prep-failures"
_NAME: Final = "nsd-prep: a run failed or crashed"
#: A template of Prefect's; JSON with one field, as the webhooks of chat services take it.
_MESSAGE: Final = """\
{"text": {{ ("Run " ~ flow_run.name ~ " of " ~ deployment.name ~ ": " ~ flow_run.state.name ~ ". "
~ flow_run.state.message ~ " " ~ (flow_run | ui_url)) | tojson }}}"""


def notify(url: str) -> Automation:
    """Set up the automation, in place of the one of an earlier call.

    Parameters
    ----------
    url : str
        Where the message is posted; kept by the server in a block.

    Returns
    -------
    Automation
        As the server keeps it.
    """
    webhook = Webhook(url=url, headers={"Content-Type": "application/json"})
    block = webhook.save(_BLOCK, overwrite=True)
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
        actions=[CallWebhook(block_document_id=block, payload=_MESSAGE)],
    )
    for earlier in _named(_NAME):
        earlier.delete()
    return automation.create()


def _named(name: str) -> list[Automation]:
    try:
        return [Automation.read(name=name)]
    except ValueError:
        return []


def main() -> None:
    """Set up the automation at the server that PREFECT_API_URL names."""
    command = argparse.ArgumentParser(
        prog="notify.py",
        description="Let Prefect's server post a message to a webhook whenever a run of nsd-prep "
        "fails or crashes: JSON with the field 'text', as Slack and Mattermost take it. Calling it "
        "again replaces the address. Needs a server: give its address in PREFECT_API_URL.",
    )
    command.add_argument("url", help="address of the webhook")
    automation = notify(command.parse_args().url)
    print(f"The automation {automation.name!r} is set up.")  # noqa: T201


if __name__ == "__main__":
    main()
