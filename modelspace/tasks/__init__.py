"""Labelled data sets of users: which images, which labels, which of them are for training, and in which metric."""
