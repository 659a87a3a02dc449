"""Search: which models to try on a task, in which order and how long, and what to expect of those not tried.

Functions of arrays and of a callable that measures; nothing here reads a registry or runs a model.
"""
