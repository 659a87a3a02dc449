"""Mutation testing: what the tests of a module would not notice."""
