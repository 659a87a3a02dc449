"""What is stored of a model: attribution maps, and kernels of its encoder output."""
