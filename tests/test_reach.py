"""What the kit reads off an attack's source."""

from __future__ import annotations

import pytest

from fedsim.errors import ConformanceError
from fedsim.testing.reach import check_reach

REACHES = {
    "import gc": "imports gc",
    "import os, torch": "imports os",
    "from fedsim.parties.features import FeatureParty": "imports fedsim.parties.features",
    "from sys import _getframe": "imports sys",
    "def init(knowledge, rng):\n    return knowledge._granted": "line 2: reads the private '_granted'",
    "m = __import__('gc')": "uses __import__",
    "exec('1')": "uses exec",
}


@pytest.mark.parametrize("source", REACHES)
def test_an_attack_that_reaches_for_more_is_refused(source: str) -> None:
    with pytest.raises(ConformanceError, match="an attack knows its messages") as refused:
        check_reach(source, "mine")
    assert REACHES[source] in str(refused.value)


def test_an_attacks_own_private_parts_and_libraries_are_its_own() -> None:
    check_reach("import torch\nfrom fedsim import Attack\nclass A:\n    def f(self):\n        return self._x\n", "mine")
