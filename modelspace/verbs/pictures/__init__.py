"""Pictures of a registry: which models, what is read of them, and the functions of `modelspace.plots` called with it.

`ModelSpace.map`, `tree`, `heatmap`, `gallery`, `atlas` and `report` come here. Importing this package loads no matplotlib and
no umap; the functions do when they draw.
"""
