"""The report of a deployment: its schema, its figures from rounds, its page."""

from dspark_calibration.report.schema import (
    Bar,
    Cost,
    Deployment,
    Ece,
    Load,
    Measured,
    Position,
    PositionScore,
    Replayed,
    Report,
    Scores,
    Source,
    SweepPoint,
    Traces,
)

__all__ = [
    "Bar",
    "Cost",
    "Deployment",
    "Ece",
    "Load",
    "Measured",
    "Position",
    "PositionScore",
    "Replayed",
    "Report",
    "Scores",
    "Source",
    "SweepPoint",
    "Traces",
]
