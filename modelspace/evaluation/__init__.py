"""How well a ranking agrees with measured transfer: oracles, metrics, baselines and a table of them all.

    >>> from modelspace import evaluation
    >>> outcome = evaluation.evaluate({}, evaluation.load("taskonomy"))
    >>> [round(float(outcome.row("popularity").summary["precision"].mean[k - 1]), 2) for k in (1, 3, 5)]
    [0.39, 0.56, 0.51]

Functions of arrays: nothing here opens a registry or imports torch.
"""

from modelspace.deprecated import renamed
from modelspace.evaluation.comparison import Cost, Evaluation, evaluate
from modelspace.evaluation.matrices import read_affinity
from modelspace.evaluation.metrics import Interval
from modelspace.evaluation.oracles import Oracle, Reliability, available, load

__getattr__ = renamed(__name__, {"judge": "evaluate"})

__all__ = ["Cost", "Evaluation", "Interval", "Oracle", "Reliability", "available", "evaluate", "load", "read_affinity"]
