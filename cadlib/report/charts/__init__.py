"""Draws values as plotly figures; nothing is read, stored or predicted.

Every figure has a transparent background and no font colour of its own, so that it fits both a
light and a dark page. Malignant is vermilion, hatched and ▲, benign is blue, plain and ●: two signs
beside the colour. `figure.layout.meta["alt"]` describes the figure in words. An undefined value
(None or NaN) is labelled as such, never drawn as 0.
"""

from cadlib.report.charts.classification import (
    malignant_reliability_chart,
    per_class_chart,
    reliability_chart,
)
from cadlib.report.charts.diagnosis_bars import class_counts_chart, confidence_chart
from cadlib.report.charts.hundred_patients import hundred_patients
from cadlib.report.charts.matrices import confusion_chart, damage_chart
from cadlib.report.charts.model_comparison import comparison_chart
from cadlib.report.charts.style import CONFIG, UNDEFINED
from cadlib.report.charts.thresholds import decision_chart, precision_recall_chart, roc_chart
from cadlib.report.charts.training import RUN_COLOURS, TRAINING_CHARTS, training_chart

__all__ = [
    "CONFIG",
    "RUN_COLOURS",
    "TRAINING_CHARTS",
    "UNDEFINED",
    "class_counts_chart",
    "comparison_chart",
    "confidence_chart",
    "confusion_chart",
    "damage_chart",
    "decision_chart",
    "hundred_patients",
    "malignant_reliability_chart",
    "per_class_chart",
    "precision_recall_chart",
    "reliability_chart",
    "roc_chart",
    "training_chart",
]
