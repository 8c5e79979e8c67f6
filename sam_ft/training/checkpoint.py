"""The partial checkpoint: the trained parameters, which load on top of a base. See `tensor_file`"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from sam_ft.adapt.lora_layer import is_factor, lora_options
from sam_ft.adapt.lora_merge import check_factors_fit, merge_factors, merged_state_dict, read_lora_options
from sam_ft.models import Sam
from sam_ft.models.heads import MapHead, head_from_notes, head_notes, in_head
from sam_ft.training.parameters import replaced, trained_parameters
from sam_ft.training.tensor_file import digest_of, read_metadata, read_tensors, write_tensors
from sam_ft.utils import distributed
from sam_ft.utils.errors import CheckpointError, ConfigError

MERGED = "with the merged updates"  # in the identity of a base, before their digest
ALL_WEIGHTS = f"random weights {digest_of({})}"  # the base of a file that replaces all weights


def save_partial_weights(model: Sam, path: str | Path, **metadata: object) -> None:
    """Writes the `trained_parameters` of `model` under their official names, and identifies their base.

    The factors of `adapt.Lora` are written as they are, with the rank, alpha and targets that merging them needs.

    metadata: further entries of the file's metadata, such as scores; any JSON value
    """
    tensors = {name: p.detach() for name, p in trained_parameters(model).items()}
    lora = lora_options(model)
    own = {**base_identity(model, tensors), **({"lora": asdict(lora)} if lora else {}), **head_notes(model.head)}
    write_tensors(path, tensors, {**own, **metadata})


def save_all_weights(model: Sam, path: str | Path, **metadata: object) -> None:
    """Writes all weights, the base's too, as a partial checkpoint that belongs on random weights.

    Updates of `adapt.Lora` are merged. metadata: as in `save_partial_weights`
    """
    tensors = {name: tensor.detach() for name, tensor in merged_state_dict(model).items()}
    identity = {**base_identity(model, ()), "base_sha256": ALL_WEIGHTS}
    write_tensors(path, tensors, {**metadata, **identity, **head_notes(model.head)})


def load_partial_weights(model: Sam, path: str | Path) -> dict:
    """Loads a partial checkpoint on top of a model with the base weights, and returns the file's metadata.

    The metadata holds the scores before and after training; "trained_modules" lists the trained submodules. Factors of
    `adapt.Lora` are merged into the weights of a model of plain layers, which then is no base for another file.

    Raises:
        CheckpointError: the file is missing, damaged, of another version, or belongs to another model, another
            input side or another base checkpoint; or names or shapes do not fit. The model is unchanged then.
    """
    tensors, metadata = read_tensors(path)
    # All checks come before the first copy, so that a refused file leaves the model as it was.
    for key, ours in base_identity(model, tensors.keys()).items():
        if metadata.get(key) != ours:
            raise CheckpointError(f"{path}: {_mismatch(key, metadata.get(key), ours)}")
    merged: dict[str, Tensor] = {}
    try:
        theirs, ours = read_lora_options(metadata.get("lora")), lora_options(model)
        if ours and theirs != ours:
            came = f"adapt=lora ({theirs})" if theirs else "another adapt="
            raise CheckpointError(f"was trained with {came}, this model has adapt=lora ({ours})")
        if theirs and not ours:
            merged = {name: tensors.pop(name) for name in list(tensors) if is_factor(name)}
            check_factors_fit(model, merged, theirs)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    head = head_from_notes(tensors, metadata)
    if head is not None and model.head is not None and _facts(head) != _facts(model.head):
        raise CheckpointError(f"{path}: {_other_head(head, model.head)}")
    own = model.state_dict()
    if head is not None and model.head is None:
        own |= {f"{head.name}.{name}": tensor for name, tensor in head.state_dict().items()}
    unknown = [name for name in tensors if name not in own]
    if unknown:
        raise CheckpointError(f"{path}: the model has no parameter called {', '.join(unknown[:3])}")
    reshaped = [name for name in tensors if tensors[name].shape != own[name].shape]
    if reshaped:
        name = reshaped[0]
        raise CheckpointError(
            f"{path}: {name} is {tuple(tensors[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        )
    if head is not None and model.head is None:
        model.attach_head(head)
        own = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)  # state_dict() holds the parameters' own storage
    if theirs and merged:
        merge_factors(model, merged, theirs)
        # Frozen weights have changed, so this is no longer the base: a second merge would add to the first.
        model.base_sha256 = model.base_sha256 and f"{model.base_sha256} {MERGED} {digest_of(merged)}"
    return {**metadata, "trained_modules": sorted({name.split(".")[0] for name in (*tensors, *merged)})}


def read_on_all(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the metadata of a file that the main process reads for all. Raises: CheckpointError"""
    found: dict[str, Tensor] = {}

    def read() -> dict:
        tensors, metadata = read_tensors(path)
        found.update(tensors)
        return metadata

    metadata = distributed.broadcast_from_main(read)
    return distributed.broadcast_tensors(found), metadata


@contextmanager
def best_weights(model: Sam, path: str | Path) -> Iterator[None]:
    """Context in which the parameters that learn are those of a partial checkpoint of the same run."""
    tensors, _ = read_on_all(path)
    with replaced(trained_parameters(model), tensors):
        yield


def holds_all_weights(path: str | Path) -> bool:
    """Whether a partial checkpoint replaces all weights, see `save_all_weights`. Raises: CheckpointError"""
    return read_metadata(path).get("base_sha256") == ALL_WEIGHTS


def check_has_head(path: Path | None) -> None:
    """Refuses a partial checkpoint without a head, and none at all. Raises: ConfigError, CheckpointError"""
    if path is None or not any(map(in_head, read_tensors(path)[0])):
        raise ConfigError(
            f"auto=true: {path or 'without a checkpoint'}: there is no head, which finds objects without prompts; "
            "train with head=instances, or score the point grid by amg=true"
        )


def base_identity(model: Sam, trained: Iterable[str]) -> dict:
    """Identifies the base of the trained weights: model, input side, and digest of the base checkpoint.

    A model of random weights has no base checkpoint; the digest of its untrained weights replaces it.
    """
    trained = set(trained)
    base = model.base_sha256
    if base is None:
        own = model.state_dict()
        rest = {
            name: own[name].cpu() for name in own if name not in trained and not is_factor(name) and not in_head(name)
        }
        base = f"random weights {digest_of(rest)}"
    return {"model_type": model.model_type, "image_size": model.image_size, "base_sha256": base}


def _facts(head: MapHead) -> tuple[str, dict[int, str]]:
    return head.name, dict(head.classes)


def _other_head(theirs: MapHead, ours: MapHead) -> str:
    names = (f"{head.name} ({', '.join(head.classes.values())})" for head in (theirs, ours))
    return "was trained with {}, this model has {}; choose the same head= and classes".format(*names)


def _mismatch(key: str, theirs: object, ours: object) -> str:
    if key == "model_type":
        return f"was trained for model={theirs}, this is model={ours}; choose model={theirs}"
    if key == "image_size":
        return f"was trained at model.image_size={theirs}, this model has {ours}; set model.image_size={theirs}"
    merged = MERGED in str(ours)
    return (
        f"was trained on top of the base checkpoint with sha256 {theirs}, this model was built from {ours}; "
        f"{'build the model anew' if merged else 'set model.checkpoint to the file that the training used'}"
    )
