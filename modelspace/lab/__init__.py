"""Training the zoo and measuring the oracles: for the scripts and tests of a checkout, not part of the installed package.

| module | what for |
|---|---|
| `tasks`, `patterns` | what the networks of the zoo learn: labels of rendered worlds, and the flat worlds of faces and patterns |
| `training`, `decoders` | training one network for one task (`scripts/train_zoo.py`) |
| `transfer`, `ahp` | measuring an oracle of transfer (`scripts/measure_transfer.py`) |
| `similarity` | similarity of encoder outputs, the baselines (`scripts/compute_baselines.py`) |
| `hubs` | hub corrections from their definitions, which tests compare `modelspace.spaces.hubness` with |

Nothing outside of this folder imports it (`tests/test_floors.py`), and the wheel leaves it out (`pyproject.toml`).
"""
