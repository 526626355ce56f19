"""Words that other libraries use for a setting, and what the setting is called here."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fedsim.errors import suggest

_STEPS, _BATCH, _LR, _PARTIES = ("steps", "rounds", "iterations"), ("batch",), ("lr", "optimiser.lr"), ("parties",)
_SEED, _TEST, _ROWS, _LABEL, _ID = ("seed",), ("test",), ("rows",), ("label", "y"), ("id",)
_OPTIMISER, _MODEL, _WIDTHS = ("optimiser",), ("bottom", "model"), ("hidden", "channels", "width")
_DATA, _COLUMNS, _SEPARATOR, _WIDTH = ("data",), ("columns", "parties"), ("separator",), ("embedding",)

FOREIGN_WORDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("epochs", "epoch", "n_epochs", "num_epochs", "max_epochs", "nb_epochs", "local_epochs"), _STEPS),
    **dict.fromkeys(("rounds", "n_rounds", "num_rounds", "max_rounds", "num_server_rounds"), _STEPS),
    **dict.fromkeys(("iterations", "n_iterations", "num_iterations", "iters", "max_iter", "n_iter"), _STEPS),
    **dict.fromkeys(("n_steps", "num_steps", "max_steps", "training_steps", "train_steps"), _STEPS),
    **dict.fromkeys(("batch_size", "batchsize", "bs", "minibatch", "mini_batch", "train_batch_size"), _BATCH),
    **dict.fromkeys(("lr", "learning_rate", "learningrate", "eta", "step_size"), _LR),
    **dict.fromkeys(("momentum", "beta"), ("momentum", "optimiser.momentum")),
    **dict.fromkeys(("beta1", "betas"), ("beta1", "optimiser.beta1")),
    **dict.fromkeys(("weight_decay", "decay", "l2", "wd"), ("weight_decay", "optimiser.weight_decay")),
    **dict.fromkeys(("optimizer", "optim", "opt", "solver", "sgd", "adam"), _OPTIMISER),
    **dict.fromkeys(("clients", "client", "n_clients", "num_clients", "participants", "workers", "nodes"), _PARTIES),
    **dict.fromkeys(("guests", "hosts", "silos", "members", "owners", "num_parties", "n_parties"), _PARTIES),
    **dict.fromkeys(("random_state", "random_seed", "manual_seed", "rng", "rng_seed", "seeds"), _SEED),
    **dict.fromkeys(("test_size", "test_split", "test_fraction", "holdout", "held_out", "validation"), _TEST),
    **dict.fromkeys(("val_split", "validation_split", "val_size", "valid_size"), _TEST),
    **dict.fromkeys(("train_size", "n_train", "n_rows", "nrows", "n_samples", "num_samples", "subset"), _ROWS),
    **dict.fromkeys(("target", "target_column", "label_column", "label_col", "class", "y"), _LABEL),
    **dict.fromkeys(("id_column", "id_col", "index", "index_col", "key"), _ID),
    **dict.fromkeys(("model", "net", "network", "backbone", "encoder", "bottom_model", "local_model"), _MODEL),
    **dict.fromkeys(("top_model", "head", "classifier", "server_model"), ("top",)),
    **dict.fromkeys(("hidden_size", "hidden_sizes", "hidden_layers", "hidden_units", "layers", "units"), _WIDTHS),
    **dict.fromkeys(("embedding_dim", "embedding_size", "embed_dim", "latent_dim", "embeddings"), _WIDTH),
    **dict.fromkeys(("dropout_rate", "drop_rate", "p"), ("dropout", "rate")),
    **dict.fromkeys(("dataset", "datasets", "train_data", "source"), _DATA),
    **dict.fromkeys(("features", "cols", "feature_names", "usecols"), _COLUMNS),
    **dict.fromkeys(("sep", "delimiter"), _SEPARATOR),
    **dict.fromkeys(("file", "filename", "file_name", "filepath", "file_path", "csv"), ("path", "files")),
    **dict.fromkeys(("paths",), ("files", "path")),
    **dict.fromkeys(("na_values", "missing_values", "nan"), ("na", "missing")),
    **dict.fromkeys(("dtypes", "dtype", "schema"), ("types",)),
    **dict.fromkeys(("eval_every", "eval_steps", "eval_interval", "evaluate_every"), ("evaluate",)),
    **dict.fromkeys(("server", "label_owner", "label_holder", "active_party", "label_party"), ("labels",)),
    **dict.fromkeys(("protocol", "mode"), ("exchange",)),
    **dict.fromkeys(("attack", "attacks", "adversary", "adversaries"), ("trials",)),
    **dict.fromkeys(("defence", "defences", "defense", "defenses", "channel", "stages"), ("links",)),
    **dict.fromkeys(("wrappers", "faults"), ("seats",)),
    **dict.fromkeys(("variants", "arms", "experiments"), ("compare",)),
    **dict.fromkeys(("knowledge", "known"), ("knows",)),
    **dict.fromkeys(("attacker",), ("seat",)),
    **dict.fromkeys(("backend", "engine", "executor"), ("runtime",)),
    **dict.fromkeys(("n_threads", "num_threads", "n_jobs", "num_workers"), ("threads",)),
    **dict.fromkeys(("std", "stddev", "noise_std", "noise_multiplier"), ("sigma", "noise")),
    **dict.fromkeys(("epsilon", "max_norm", "clip_norm", "clipping_norm"), ("norm", "eps")),
    **dict.fromkeys(("type", "name", "class_name"), ("kind",)),
    **dict.fromkeys(("checkpoints", "checkpointing", "save_every"), ("checkpoint",)),
    **dict.fromkeys(("device", "devices", "gpu", "resources", "num_gpus"), ("placement", "gpus")),
}
"""By word, lower case with underscores: settings in order of preference; ``a.b`` is ``b`` under ``a``."""


def is_epochs(word: str) -> bool:
    """Whether a word counts passes over the training rows, which nothing here is counted in."""
    return "epoch" in word.lower()


def find_setting(found: str, allowed: Collection[str]) -> str:
    """The setting that a key means: itself, or by the table; "" if none of ``allowed``."""
    word = found.strip().lower().replace("-", "_").replace(" ", "_")
    keys = (found, word, *FOREIGN_WORDS.get(word, ()))
    return next((key for key in keys if key.partition(".")[0] in allowed), "")


def suggest_key(found: str, allowed: Collection[str]) -> str:
    """As `suggest`, for a key: a word that another library uses leads to the setting of that meaning."""
    meant = find_setting(found, allowed)
    if not meant:
        return suggest(found, allowed)
    above, _, key = meant.rpartition(".")
    listed = suggest("", allowed).removeprefix(";")
    return f"; did you mean '{key}'{f' under {above!r}' if above else ''}?{listed}"
