"""Analysis of an affinity matrix: trees, bootstrap support, projections, neighbours, duplicates, outliers.

Functions of arrays and plain values; nothing here reads a registry. Importing the package loads numpy and scipy, but
not matplotlib, umap or scikit-learn: `fit_projection` imports umap when it is called.
"""

from modelspace.analysis.distances import (
    affinity_from_cosines,
    check_affinity,
    distance_matrix,
    is_euclidean,
    paper_distance,
)
from modelspace.analysis.neighbours import (
    NeighbourRecall,
    hubs,
    hubs_of,
    nearest_among,
    nearest_of_vectors,
    neighbour_recall,
    occurrence,
    true_neighbours,
)
from modelspace.analysis.newick import Clade, parse_newick, to_json, to_newick
from modelspace.analysis.outliers import (
    Duplicate,
    Outlier,
    duplicate_groups,
    duplicates,
    duplicates_of,
    outliers,
    outliers_of,
)
from modelspace.analysis.projection import Projection, fit_projection, place_many, place_new
from modelspace.analysis.sample import covering, drawn
from modelspace.analysis.support import cluster_support
from modelspace.analysis.tree import LINKAGES, Tree, build_tree

__all__ = [
    "LINKAGES",
    "Clade",
    "Duplicate",
    "NeighbourRecall",
    "Outlier",
    "Projection",
    "Tree",
    "affinity_from_cosines",
    "build_tree",
    "check_affinity",
    "cluster_support",
    "covering",
    "distance_matrix",
    "drawn",
    "duplicate_groups",
    "duplicates",
    "duplicates_of",
    "fit_projection",
    "hubs",
    "hubs_of",
    "is_euclidean",
    "nearest_among",
    "nearest_of_vectors",
    "neighbour_recall",
    "occurrence",
    "outliers",
    "outliers_of",
    "paper_distance",
    "parse_newick",
    "place_many",
    "place_new",
    "to_json",
    "to_newick",
    "true_neighbours",
]
