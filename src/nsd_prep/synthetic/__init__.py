"""A synthetic NSD: the dataset's file formats with a known truth inside."""

from nsd_prep.synthetic.plan import PLANS, SubjectPlan, SyntheticPlan
from nsd_prep.synthetic.truth import SubjectTruth, SyntheticTruth, read_truth
from nsd_prep.synthetic.writer import write_synthetic_nsd

__all__ = [
    "PLANS",
    "SubjectPlan",
    "SubjectTruth",
    "SyntheticPlan",
    "SyntheticTruth",
    "read_truth",
    "write_synthetic_nsd",
]
