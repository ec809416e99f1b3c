"""Single trials in the files that papers' code reads."""

from nsd_prep.exports.export import LIKES, Like, export_trials

__all__ = ["LIKES", "Like", "export_trials"]
