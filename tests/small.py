"""Small versions of the scenarios that ship, for tests that play them in several processes."""

from __future__ import annotations

from typing import Any

from fedsim import config
from fedsim.config import ScenarioFile

DATA = {"kind": "synthetic", "count": 120, "features": 8, "informative": 6, "test": 40}
PARTIES = {"north": {"columns": "0:4"}, "east": {"columns": "4:8"}}
SHORT = {"data": DATA, "parties": PARTIES, "embedding": 4, "batch": 10, "steps": 12, "evaluate": 6}

SMALL: dict[str, dict[str, Any]] = {
    "baseline": {
        "scenario": {"kind": "baseline", "labels": "east", **SHORT, "bottom": {"kind": "mlp", "dropout": 0.2}}
    },
    "leakage": {
        "scenario": {
            "kind": "leakage",
            "exchange": "shared",
            **SHORT,
            "bottom": {"kind": "linear"},
            "window": {"from": 0, "rounds": 12},
        },
        "trials": [{"attack": {"kind": "cafe"}, "seat": "server", "victim": "*", "knows": ["rows", "bottom"]}],
        "links": [
            {"to": "server", "message": "ParameterGradient", "sender": [{"kind": "gaussian_noise", "sigma": 0.1}]}
        ],
    },
    "labels": {
        "scenario": {"kind": "leakage", **SHORT},
        "trials": [{"attack": {"kind": "norm_scoring"}, "seat": "north", "victim": "server", "knows": ["rows"]}],
        "links": [{"from": "server", "message": "Gradient", "sender": [{"kind": "clip", "norm": 0.01}]}],
    },
    "weight_faults": {
        "scenario": {
            "kind": "weight_faults",
            **SHORT,
            "bottom": {"kind": "mlp", "hidden": [6]},
            "hardening": {"robust": 0.1, "norm": 0.01, "adversarial": 0.01, "noise": 0.01},
            "examination": {
                "radii": [0.01, 0.1],
                "steps": 3,
                "searches": 3,
                "rows": 12,
                "draws": 2,
                "flips": [1, 3],
                "format": "int8",
            },
        },
        "seats": {
            "north": [{"kind": "bitflip", "count": 2, "part": "mantissa", "at": 3}, {"kind": "weight_pgd", "at": 6}],
            "east": [{"kind": "missing", "at": 5}, {"kind": "noisy"}],
            "server": [{"kind": "quantise", "bits": 6}],
        },
    },
    "best_arm": {
        "scenario": {
            "kind": "best_arm",
            **{key: value for key, value in SHORT.items() if key != "evaluate"},
            "noise": {"static": 2},
            "search": {"rows": 16, "max_pulls": 2000},
        },
        "links": [{"from": "north", "message": "Reward", "sender": [{"kind": "lying", "harm": "down"}]}],
    },
    "appraisal": {
        "scenario": {
            "kind": "baseline",
            **SHORT,
            "bottom": {"kind": "mlp", "hidden": [6], "dropout": 0.2},
            "worth": {"exact": 1, "orders": 3},
            "resilience": {"missing": [0.3], "noisy": [1], "shifted": [1], "draws": 2},
        },
        "seats": {"north": [{"kind": "absent"}], "server": [{"kind": "wrong_labels"}]},
        "links": [{"to": "server", "message": "Embedding", "sender": [{"kind": "gaussian_noise", "sigma": 0.1}]}],
    },
    "uda_poisoning": {
        "scenario": {
            "kind": "uda_poisoning",
            "data": {"kind": "domains", "count": 80, "rows": 50, "test": 20, "classes": 3},
            "parties": {"north": {"columns": "0:8"}, "east": {"columns": "8:16"}},
            "learner": {"kind": "mcd"},
            "embedding": 4,
            "batch": 10,
            "steps": 12,
            "evaluate": 6,
            "grants": {"server": ["target_labels"], "east": ["labels", "target_labels"]},
        },
        "seats": {
            "server": [{"kind": "mislabelled", "plotters": ["north"], "candidates": 5}],
            "north": [{"kind": "watermark", "alpha": 0.5}],
            "east": [{"kind": "poisoned_slice"}],
        },
    },
    "minmax": {
        "scenario": {
            "kind": "minmax",
            "data": {"kind": "sklearn", "name": "digits", "rows": 200, "test": 60},
            "victims": {
                "north": {"model": {"kind": "mlp"}, "training": {"epochs": 12}},
                "east": {
                    "model": {"kind": "linear"},
                    "training": {"epochs": 12, "against": {"norm": "linf", "eps": 0.1}},
                },
            },
            "balls": [{"norm": "linf", "eps": 0.2}, {"norm": "l1", "eps": 4}],
            "attack": {"iterations": 6},
            "examples": 20,
        },
    },
    "minmax_slice": {
        "scenario": {
            "kind": "minmax_slice",
            **SHORT,
            "guard": {"balls": [{"norm": "linf", "eps": 0.5}, {"norm": "l1", "eps": 1}], "steps": 2},
            "siege": {
                "balls": [{"norm": "l2", "eps": 1}],
                "over": "complements",
                "count": 2,
                "rules": ["average", "minmax"],
                "weighing": {"iterations": 5},
            },
        },
    },
    "contrastive": {
        "scenario": {
            "kind": "contrastive",
            "data": {"kind": "sklearn", "name": "digits", "rows": 60, "test": 12},
            "parties": {"north": {"columns": "0:4, 0:8"}, "east": {"columns": "4:8, 0:8"}},
            "bottom": {"kind": "norm_cnn", "channels": [4, 8]},
            "embedding": 6,
            "batch": 20,
            "steps": 7,
            "pretraining": {"kind": "advcl", "cross": 0.5, "own": 0.1, "pseudo": {"of": "embeddings", "sizes": [2, 5]}},
            "threat": {"inner": 2},
            "finetuning": {"mode": "trades", "steps": 5, "batch": 20},
            "robustness": {"steps": 3, "long": 4, "restarts": 2, "auto_steps": 4, "targets": 1, "radii": [0.3]},
        },
        "seats": {"east": [{"kind": "noisy"}]},
    },
}


def small(name: str, **more: Any) -> ScenarioFile:
    """One of them."""
    return config.validate({"name": name, **SMALL[name], **more}, name, {})
