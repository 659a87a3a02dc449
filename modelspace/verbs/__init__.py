"""One module for each verb of `modelspace.workspace.ModelSpace`."""
