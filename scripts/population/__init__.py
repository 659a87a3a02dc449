"""Parts of scripts/simulate_population.py: a population of models that is computed, not trained."""
