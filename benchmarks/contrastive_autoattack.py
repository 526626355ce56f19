"""AutoAttack by another library on a trained federation: ``python benchmarks/contrastive_autoattack.py RUN ROWS [ARM ...]``.

RUN is the folder of one seed, ROWS how many held-out rows are attacked. The saved models of all seats are put together to one
network of whole images, and torchattacks (``pip install torchattacks``, no dependency of fedsim) attacks it: the standard
AutoAttack of APGD-CE, APGD-T, FAB and Square. Prints its accuracy beside what the federation found by itself.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from fedsim import config
from fedsim.parties.cut import ImagePart
from fedsim.parties.encode import LabelEncoder
from fedsim.parties.vertical import build_bottom, build_top
from fedsim.report import reading
from fedsim.seeding import Rng, determine


class Joint(nn.Module):
    """All bottoms and the top, over whole images (n, C, H, W)."""

    def __init__(self, bottoms: list[nn.Module], parts: list[ImagePart], top: nn.Module) -> None:
        super().__init__()
        self.bottoms, self.parts, self.top = nn.ModuleList(bottoms), parts, top

    def forward(self, images: Tensor) -> Tensor:
        """The logits (n, classes)."""
        z = [net(images[(slice(None), *part.slices)]) for net, part in zip(self.bottoms, self.parts, strict=True)]
        logits: Tensor = self.top(torch.cat(z, dim=1))
        return logits


def main() -> None:
    warnings.simplefilter("ignore")
    from torchattacks import AutoAttack

    path = Path(sys.argv[1])
    run = reading.read(path)
    arms = config.read(str(path / "scenario.yaml")).arms()
    print("| arm | clean | PGD | APGD, here | AutoAttack, torchattacks |")
    for name in sys.argv[3:] or list(arms):
        file, saved = arms[name], reading.load_seats(path, name)
        scenario, public, any_rng = file.scenario, Rng.root(file.seed), Rng.root(0)
        determine(file.threads)
        nets, parts = [], []
        for party in scenario.parties:
            tensors, sidecar = saved[party]
            network = build_bottom(sidecar["architecture"], any_rng)
            network.load(tensors)
            nets.append(network.module)
            parts.append(scenario.part(party))
        tensors, sidecar = saved["server"]
        classes = LabelEncoder.from_json(sidecar["classes"])
        top = build_top(scenario, len(classes.classes), any_rng)
        top.load({key.removeprefix("top."): t for key, t in tensors.items()})
        joint = Joint(nets, parts, top.module).eval()
        held_out = scenario.data.split(public.child("rows"))[1][: int(sys.argv[2])]
        channels, height, width = scenario.data.schema().shape
        whole = ImagePart((0, height), (0, width), (0, channels))
        x = torch.from_numpy(scenario.data.read(whole)[held_out]).float()
        y = classes.apply(scenario.data.labels()[held_out])
        attack = AutoAttack(joint, norm="Linf", eps=scenario.threat.eps, n_classes=len(classes.classes), seed=0)
        struck = attack(x, y)
        assert (struck - x).abs().max() <= scenario.threat.eps + 1e-5
        with torch.no_grad():
            clean, robust = ((joint(rows).argmax(1) == y).double().mean() for rows in (x, struck))
        task = run.summary["arms"][name]["task"]  # over all rows that were examined
        print(
            f"| {name} | {clean:.3f} | {task['pgd_accuracy']:.3f} | {task['apgd_accuracy']:.3f} | {robust:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
