"""Training the zoo and measuring the oracles: for scripts and tests, not part of the installed package.

| module | what for |
|---|---|
| `tasks`, `patterns` | training data of the zoo: labels of rendered worlds, and flat worlds of faces and patterns |
| `training`, `decoders` | training one network for one task (`scripts/train_zoo.py`) |
| `transfer`, `ahp` | measuring a transfer oracle (`scripts/measure_transfer.py`) |
| `similarity` | similarity of encoder outputs, the baselines (`scripts/compute_baselines.py`) |
| `sealing` | a registry whose bytes depend only on its content (`scripts/build_registry.py`) |
| `hubs` | hubness corrections from their definitions, the reference for `modelspace.spaces.hubness` in tests |

No module outside this folder imports it (`tests/test_floors.py`), and the wheel excludes it (`pyproject.toml`).
"""
