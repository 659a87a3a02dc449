"""Rendered worlds with ground truth: scenes, the ray caster, and what their surfaces look like."""
