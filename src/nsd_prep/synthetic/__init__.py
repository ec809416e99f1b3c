"""A synthetic NSD: the dataset's file formats with a known truth inside."""

from nsd_prep.synthetic.plan import PLANS, SubjectPlan, SurfacePlan, SyntheticPlan
from nsd_prep.synthetic.truth import (
    SubjectTruth,
    SyntheticTruth,
    VertexTruth,
    read_truth,
    read_vertex_truth,
)
from nsd_prep.synthetic.writer import write_synthetic_nsd

__all__ = [
    "PLANS",
    "SubjectPlan",
    "SubjectTruth",
    "SurfacePlan",
    "SyntheticPlan",
    "SyntheticTruth",
    "VertexTruth",
    "read_truth",
    "read_vertex_truth",
    "write_synthetic_nsd",
]
