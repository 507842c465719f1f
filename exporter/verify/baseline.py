"""What `verify --json` printed before, as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exporter.bundle import read_manifest
from exporter.errors import DataError, UsageError
from exporter.verify.bundle import BundleCheck
from exporter.verify.device_gates import counted
from exporter.verify.devices import Device
from exporter.verify.on_device import FORMATS, DeviceCheck
from exporter.verify.subjects import files_of

RECORD = "record one: edge-export verify BUNDLE --on DEVICE --json > FILE"


def read_check(path: Path) -> BundleCheck:
    """What `verify --json` printed. Raises DataError for anything else."""
    try:
        return BundleCheck.model_validate_json(path.read_text())
    except OSError as error:
        raise DataError(f"cannot read {path}", why=error.strerror or str(error), try_=RECORD) from error
    except ValueError as error:
        raise DataError(f"{path} is not the JSON of verify", why=str(error).splitlines()[0], try_=RECORD) from error


def counts_before(path: Path, bundle: Path, devices: Sequence[Device]) -> tuple[DeviceCheck, ...]:
    """The rows of a baseline. Raises DataError where it counted nothing on a device that counts, or another model's
    instructions; UsageError where no device counts.
    """
    counting, model = [each.name for each in devices if each.can_count], read_manifest(bundle).get("model")
    if not counting:
        names = ", ".join(each.name for each in devices)
        raise UsageError(f"--baseline without a device that counts instructions: {names}", try_="--on arm64:cortex-a76")
    before = read_check(path)
    if before.model != model:
        raise DataError(f"{path} is of another model", why=f"{before.model}, and {bundle} is {model}", try_=RECORD)
    known = {(device, target) for row in before.devices for device, target, _ in counted(row)}
    files = [target for target, file in files_of(read_manifest(bundle)).items() if file.endswith(FORMATS)]
    if absent := [(device, target) for device in counting for target in files if (device, target) not in known]:
        raise DataError(
            f"{path} has no instructions to compare with",
            where=[f"{target} on {device}" for device, target in absent],
            why="it was recorded without them" if before.devices else "it was recorded without --on",
            try_=RECORD,
        )
    return before.devices
