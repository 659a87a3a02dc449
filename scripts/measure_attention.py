"""The two rules for attention on transformers of timm with random weights: does the ledger close, how do maps differ?

    python scripts/measure_attention.py     # two minutes on a core

For each architecture: the residual of the ledger (`modelspace.attribution.ledger`) with the rules of CP-LRP
(`epsilon_lrp`) and of AttnLRP (`attn_lrp`), and the cosine of the two maps of one drawn image, in float64. A linear
layer follows the network, since the sum of what a layer norm gives is constant.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from modelspace.attribution.engine import attribute
from modelspace.attribution.ledger import ledger

#: Architectures, and the side of the image that they get.
ARCHITECTURES = {
    "vit_tiny_patch16_224": 64,
    "deit3_small_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 224,
    "eva02_tiny_patch14_224": 56,
    "xcit_nano_12_p16_224": 64,
    "maxvit_rmlp_pico_rw_256": 256,
    "mobilevit_xxs": 64,
    "cait_xxs24_224": 64,
    "pvt_v2_b0": 64,
    "vit_base_patch16_siglip_224": 64,
    "levit_128s": 224,
    "coat_tiny": 64,
}

OUTPUTS = 16


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two maps."""
    return float((a * b).sum() / (a.norm() * b.norm()))


def network(name: str, side: int) -> nn.Module:
    """An architecture without its classifier, for images of a side if it can be made for them."""
    import timm  # after torchvision's operators are declared

    try:
        net = timm.create_model(name, pretrained=False, num_classes=0, img_size=side)
    except TypeError:
        net = timm.create_model(name, pretrained=False, num_classes=0)
    net = net.eval().double()
    width = net(torch.zeros(1, 3, side, side, dtype=torch.float64)).shape[1]
    return nn.Sequential(net, nn.Linear(width, OUTPUTS).double()).eval()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
    import torchvision_ops

    torchvision_ops.declare()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| network | residual, CP-LRP | residual, AttnLRP | cosine of the two maps |\n|---|---|---|---|")
    for name, side in ARCHITECTURES.items():
        net = network(name, side)
        image = torch.randn(1, 3, side, side, dtype=torch.float64)
        residuals = [ledger(net, image, through_attention=through).residual for through in (False, True)]
        maps = attribute(net, image, ["epsilon_lrp", "attn_lrp"]).maps
        alike = cosine(maps["epsilon_lrp"], maps["attn_lrp"])
        print(f"| {name} | {residuals[0]:.0e} | {residuals[1]:.0e} | {alike:.2f} |", flush=True)


if __name__ == "__main__":
    main()
