"""The command ``nsd-prep``, which is also ``python -m nsd_prep``."""

from nsd_prep.flows.interruption import end_at_once_on_request, ending_with
from nsd_prep.flows.streams import open_closed_streams


def main() -> int:
    """Run ``nsd-prep``; return its exit status."""
    open_closed_streams()
    end_at_once_on_request()  # before anything that takes long to import
    from nsd_prep.flows import command

    return ending_with(command.main())


if __name__ == "__main__":
    raise SystemExit(main())
