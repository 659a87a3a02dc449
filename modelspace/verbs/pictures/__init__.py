"""Pictures of a registry: select the models, read their data, and call the functions of `modelspace.plots`.

`ModelSpace.map`, `tree`, `heatmap`, `gallery`, `atlas` and `report` call these functions. Importing this package loads
neither matplotlib nor umap; the functions do when they draw.
"""
