"""Weights into a model: read a file without running its code, and check every tensor before one is changed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from exporter.build.darknet_weights import is_darknet, read_darknet
from exporter.build.registry import build_model, list_models
from exporter.errors import DataError

# What training scripts wrap a state dict in. Averaged weights first: published figures are measured on them.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
# What DataParallel, Lightning and effdet's training bench put before every name.
PREFIXES = ("module.", "model.")
SHOWN_OFFENDERS = 8


def load_weights(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> None:
    """Load a checkpoint in a published naming into `model`, strictly and all or nothing.

    source: a .pth, .pt, .safetensors or darknet .weights file, recognised by content, or a state dict. Names are the
    model's own (official) ones or those of one of its `checkpoint_namings` (`official_names`). Wrappers such as
    `state_dict` and prefixes such as `module.` are taken off. Values are cast to the model's dtype. BatchNorm's
    `num_batches_tracked` may be absent: inference does not read it.
    Raises DataError for a missing, truncated, foreign or unsafe file, and one listing every missing, unexpected,
    wrong-shape or non-finite tensor otherwise, as the file calls it.
    """
    if isinstance(source, (str, Path)):
        found, origin = unwrap(read_file(Path(source), model), model), str(source)
    else:
        found, origin = unwrap(source, model), "the given state dict"
    names = official_names(found, model)
    state = {name: found[called] for name, called in names.items()}
    _check(model, state, names, origin)
    model.load_state_dict(state, strict=False)


def read_file(path: Path, model: nn.Module) -> object:
    """Content of a .pth, .pt, .safetensors or .weights file on the CPU; only tensors and plain containers are ever
    built. A `.weights` file gets its names from `model`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise DataError(f"cannot read weights {path}", why=error.strerror or str(error)) from error
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path, zipped=head.startswith(b"PK"))
    if is_darknet(head):
        return read_darknet(path, model)
    raise DataError(
        f"{path} is not a weights file",
        why=_describe(head),
        try_="a .pth or .pt written by torch.save(model.state_dict(), ...), a .safetensors, or darknet's .weights",
    )


def _describe(head: bytes) -> str:
    start = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page: the download went to a login or error page"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; `git lfs pull` fetches the real file"
    if head[4:8] == b"TFL3":
        return "it is a TFLite model"
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file, as Keras writes; TensorFlow checkpoints are not read"
    return "it is neither a PyTorch archive nor safetensors nor darknet weights"


def _truncated(path: Path, error: Exception | None = None) -> DataError:
    detail = str(error).splitlines()[0] if error is not None and str(error) else "it ends too early"
    return DataError(f"{path} is truncated or damaged", why=detail, try_="download or copy the file again")


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _truncated(path, error) from error


def _read_torch(path: Path, zipped: bool) -> object:
    if zipped:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise _truncated(path) from error
        if any(name.endswith("/constants.pkl") for name in names):
            raise DataError(
                f"{path} is a TorchScript program, not weights",
                try_="torch.save(torch.jit.load(file).state_dict(), 'weights.pth')",
            )
        if not any(name.endswith("/data.pkl") for name in names):
            raise DataError(f"{path} is not a weights file", why="it is a zip archive that torch.save did not write")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds more than weights",
            where=_foreign_classes(path) if zipped else (),
            why="it pickles Python objects, and loading those can run any code",
            try_="where you trust the file: torch.save(model.state_dict(), 'weights.pth') and load that",
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, IndexError) as error:
        raise _truncated(path, error if isinstance(error, RuntimeError) else None) from error


def _foreign_classes(path: Path) -> list[str]:
    """Names of the Python classes and functions that an archive would have imported."""
    return [str(name) for name in torch.serialization.get_unsafe_globals_in_checkpoint(str(path))][:SHOWN_OFFENDERS]


def unwrap(content: object, model: nn.Module) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, without the prefix that hides the model's names."""
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {}
    if isinstance(content, Mapping):
        state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise DataError(
            "the checkpoint holds no named tensors",
            why=f"its content is {type(content).__name__}",
            try_="a state dict, bare or under one of the keys " + ", ".join(WRAPPERS),
        )
    known = model.state_dict().keys()
    for prefix in PREFIXES:
        if not known & state.keys() and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def official_names(names: Iterable[str], model: nn.Module) -> dict[str, str]:
    """The model's own name of every tensor -> the name that a file gives it.

    A family declares other namings that its weights are published in as `checkpoint_namings`: a dict from the naming's
    name, such as "timm", to a function from one tensor name in it to the official one, or to None for a tensor of a
    part that this model has not (a detector's head, beside its backbone). The naming that explains most names is
    taken, the official one where none explains more. A name that two tensors would share stays the first's.
    """
    known, names = model.state_dict().keys(), list(names)
    best = {name: name for name in names}
    for rename in getattr(model, "checkpoint_namings", {}).values():
        renamed: dict[str, str] = {}
        for called in names:
            name = rename(called)
            if name is not None:
                renamed[called if name in renamed else name] = called
        best = max(best, renamed, key=lambda candidate: len(known & candidate.keys()))
    return best


def _needed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _check(model: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str], origin: str) -> None:
    """DataError with all offenders, as the file calls them by `names`, unless `state` fits `model` and is finite."""
    want, have = _needed(model.state_dict()), _needed(state)
    missing = [f"missing     {name}  {list(want[name].shape)}" for name in want.keys() - have.keys()]
    unexpected = [f"unexpected  {names[name]}  {list(have[name].shape)}" for name in have.keys() - want.keys()]
    both = [name for name in want if name in have]
    reshaped = [name for name in both if want[name].shape != have[name].shape]
    shapes = [f"shape       {names[name]}  {list(have[name].shape)}, not {list(want[name].shape)}" for name in reshaped]
    broken = [f"not finite  {names[name]}" for name in both if not torch.isfinite(have[name]).all()]
    offenders = sorted(missing) + sorted(unexpected) + shapes + broken
    if not offenders:
        return
    where = offenders[:SHOWN_OFFENDERS]
    if len(offenders) > SHOWN_OFFENDERS:
        where.append(f"and {len(offenders) - SHOWN_OFFENDERS} more")
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "not finite": broken}
    raise DataError(
        f"{origin} does not fit the model",
        where=where,
        why=", ".join(f"{len(items)} {what}" for what, items in parts.items() if items),
        try_=_advice(model, want, have, names, reshaped, only_shapes=len(shapes) == len(offenders)),
    )


def _advice(
    model: nn.Module,
    want: Mapping[str, Tensor],
    have: Mapping[str, Tensor],
    names: Mapping[str, str],
    reshaped: list[str],
    only_shapes: bool,
) -> str:
    classes = getattr(model, "num_classes", None)
    if only_shapes and isinstance(classes, int):
        # A predictor has (outputs per class) x classes rows and nothing else of it depends on the classes.
        counts = {len(have[name]) * classes / len(want[name]) for name in reshaped}
        same_columns = all(have[name].shape[1:] == want[name].shape[1:] for name in reshaped)
        if same_columns and len(counts) == 1 and (count := counts.pop()).is_integer():
            return f"--num-classes {int(count)}: only the predictor differs, and the file's has that many classes"
    owners = _owners({names[name]: value for name, value in have.items()})
    if owners:
        return f"the model these weights belong to: {' or '.join(owners)}"
    return "the model that the checkpoint was trained as, in a published naming (`edge-export list` prints the models)"


def _owners(state: Mapping[str, Tensor]) -> list[str]:
    """Registered models with exactly these tensor names, and shapes but for the predictors'."""
    size = sum(value.numel() for name, value in state.items() if "running_" not in name)
    owners = []
    for info in list_models():
        # Only models of about this size are worth building; a few percent leave room for another class count.
        if abs(info.params - size) > 0.05 * info.params:
            continue
        with torch.device("meta"):
            model = build_model(info.name)
        want, names = _needed(model.state_dict()), official_names(state, model)
        if want.keys() == names.keys() and sum(want[name].shape != state[names[name]].shape for name in want) <= 2:
            owners.append(info.name)
    return owners


@torch.no_grad()
def refit_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Refit the running mean and variance of every BatchNorm to real pictures, as plain averages over the batches.

    batches: normalised pictures [N, 3, H, W]. Meant for random weights, whose activations would otherwise grow or
    vanish with depth; a module called several times (a head shared by pyramid levels) averages over its calls.
    Weights are not changed, and the model is left in eval mode. Raises DataError if there is no picture, or one alone
    where a level has one cell: a single value has no variance.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    pictures = 0
    try:
        for batch in batches:
            model(batch)
            pictures += len(batch)
    except ValueError as error:
        raise DataError(
            "cannot fit BatchNorm statistics", why=str(error), try_="batches of at least two pictures, or a larger size"
        ) from error
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()
    if not pictures:
        raise DataError("no picture to fit BatchNorm statistics to", try_="--calib with a folder of pictures")
