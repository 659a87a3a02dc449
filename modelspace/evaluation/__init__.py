"""How far a ranking agrees with measured transfer: oracles, metrics, baselines and the table that holds them all.

    >>> from modelspace import evaluation
    >>> outcome = evaluation.judge({}, evaluation.load("taskonomy"))
    >>> [round(float(outcome.row("popularity").summary["precision"].mean[k - 1]), 2) for k in (1, 3, 5)]
    [0.39, 0.56, 0.51]

Arrays in, figures out: nothing here opens a registry or imports torch.
"""

from modelspace.evaluation.judge import Cost, Evaluation, judge
from modelspace.evaluation.matrices import read_affinity
from modelspace.evaluation.metrics import Interval
from modelspace.evaluation.oracles import Oracle, Reliability, available, load

__all__ = ["Cost", "Evaluation", "Interval", "Oracle", "Reliability", "available", "judge", "load", "read_affinity"]
