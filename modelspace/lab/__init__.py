"""Training the zoo and measuring the oracles: for scripts and tests, not part of the installed package.

| module | what for |
|---|---|
| `tasks`, `patterns` | labels of rendered worlds, and flat worlds of faces and patterns: what the zoo learns |
| `training`, `decoders` | training one network for one task (`scripts/train_zoo.py`) |
| `transfer`, `ahp` | measuring an oracle of transfer (`scripts/measure_transfer.py`) |
| `similarity` | similarity of encoder outputs, the baselines (`scripts/compute_baselines.py`) |
| `sealing` | a registry whose bytes follow from its content (`scripts/build_registry.py`) |
| `hubs` | hub corrections from their definitions, which tests compare `modelspace.spaces.hubness` with |

Nothing outside of this folder imports it (`tests/test_floors.py`), and the wheel leaves it out (`pyproject.toml`).
"""
