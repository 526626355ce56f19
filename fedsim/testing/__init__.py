"""Public conformance kits: run them on your own plugin, in your own tests, or with ``fedsim check path/to/plugin.py``.

Each kit takes what it checks (a settings object, or a factory) and returns nothing, or raises `ConformanceError` with
one line that says which part of the contract is broken and how it showed. No test framework is needed.

>>> from fedsim.channel import chain
>>> check_stage(chain)
"""

from fedsim.testing.attacks import check_attack
from fedsim.testing.defences import check_defence
from fedsim.testing.models import check_model
from fedsim.testing.plugins import check_plugin
from fedsim.testing.recording import Recording, record
from fedsim.testing.runtimes import check_runtime
from fedsim.testing.samples import sample_streams
from fedsim.testing.scenarios import check_scenario
from fedsim.testing.stages import check_stage
from fedsim.testing.transports import check_transport
from fedsim.testing.wrappers import check_wrapper

__all__ = [
    "Recording",
    "check_attack",
    "check_defence",
    "check_model",
    "check_plugin",
    "check_runtime",
    "check_scenario",
    "check_stage",
    "check_transport",
    "check_wrapper",
    "record",
    "sample_streams",
]
