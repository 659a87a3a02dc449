"""Which tensor of a model is explained, and what else its forward pass needs."""
