"""The questions of an experiment, answered from what it wrote, whatever the answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nest_ssl.report.answer import Aims, Answer
from nest_ssl.report.answers_loss import loss_fall
from nest_ssl.report.answers_scores import cer_change, conditions, keywords, rates
from nest_ssl.report.answers_training import memory, progress

if TYPE_CHECKING:
    from nest_ssl.report.experiment import Experiment


def answers(experiment: Experiment, aims: Aims) -> list[Answer]:
    """Give every question in the order of interest; what cannot be told yet is answered with the reason."""
    return [
        progress(experiment),
        loss_fall(experiment, aims.loss_fall),
        cer_change(experiment.scores, aims.cer_gain, experiment.further),
        rates(experiment.scores, aims, experiment.further),
        keywords(experiment.scores),
        conditions(experiment.scores, experiment.further),
        memory(experiment),
    ]
