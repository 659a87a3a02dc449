"""The embedding pass: a model is prepared, probe images go through it, maps and kernels come out."""
