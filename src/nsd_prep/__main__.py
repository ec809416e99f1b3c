"""``python -m nsd_prep`` is the command ``nsd-prep``."""

from nsd_prep.flows.command import main

if __name__ == "__main__":
    raise SystemExit(main())
