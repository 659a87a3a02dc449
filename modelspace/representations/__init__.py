"""How a model is stored: as attribution maps, and as kernels of its encoder output."""
