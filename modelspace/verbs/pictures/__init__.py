"""Pictures of a registry: models are selected, their data read, and the functions of `modelspace.plots` called.

`ModelSpace.map`, `tree`, `heatmap`, `gallery`, `atlas` and `report` call this package. Importing it does not load
matplotlib or umap; they are imported when a picture is drawn.
"""
