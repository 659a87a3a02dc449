"""What scripts/measure_attribution.py is made of: gradients of the zoo's encoders, and what is computed from them."""
