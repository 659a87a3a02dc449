"""One module per method of `modelspace.workspace.ModelSpace`."""
