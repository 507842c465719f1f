"""The flatbuffer: determinism, alignment, shared buffers, signature."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from parity import check_float, check_int8, image
from torch import nn

from exporter.ir.quant import QuantParams
from exporter.lower.tflite.file import ModelFile

X = image(1, 3, 8, 8)


class Net(nn.Module):
    """Two inputs, two outputs, a bit of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, image, scale):
        y = torch.relu(self.depthwise(nn.functional.silu(self.stem(image)))) * scale
        return {"scores": self.head(y.mean((2, 3))), "features": y}


INPUTS = X, image(1, 1, 1, 1, low=1, high=2)


def seeded() -> Net:
    torch.manual_seed(3)
    return Net()


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_the_same_model_gives_the_same_bytes(check):
    assert check(seeded(), *INPUTS).content == check(seeded(), *INPUTS).content


SCRIPT = """
import sys; sys.path[:0] = {folders}
from parity import check_int8
from test_file import INPUTS, seeded
import hashlib
print(hashlib.sha256(check_int8(seeded(), *INPUTS).content).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_bytes_in_another_process(hash_seed):
    """No order of a set or of hashes reaches the file."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(folders=folders)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    here = hashlib.sha256(check_int8(seeded(), *INPUTS).content).hexdigest()
    assert result.stdout.split()[-1] == here


@pytest.mark.parametrize("check", [check_float, check_int8])
def test_tensor_data_is_aligned_to_16_bytes(check):
    model = schema.Model.GetRootAs(check(seeded(), *INPUTS).content, 0)
    starts = []
    for index in range(model.BuffersLength()):
        table = model.Buffers(index)._tab
        if (offset := table.Offset(4)) and table.VectorLen(offset):
            starts.append(table.Vector(offset))
    assert len(starts) > 8
    assert [start % 16 for start in starts] == [0] * len(starts)


def test_buffer_0_is_empty():
    """The schema reserves it: activations point at it."""
    assert schema.Model.GetRootAs(check_float(seeded(), *INPUTS).content, 0).Buffers(0).DataLength() == 0


def test_the_identifier_is_tfl3():
    assert check_float(seeded(), *INPUTS).content[4:8] == b"TFL3"


def test_the_signature_names_inputs_and_outputs_in_order():
    (signature,) = check_float(seeded(), *INPUTS).file.signatures
    assert signature.key == "serving_default"
    assert [name for name, _ in signature.inputs] == ["image", "scale"]
    assert [name for name, _ in signature.outputs] == ["scores", "features"]


def test_signature_and_subgraph_agree():
    file = check_float(seeded(), *INPUTS).file
    (signature,) = file.signatures
    assert tuple(index for _, index in signature.inputs) == file.inputs
    assert tuple(index for _, index in signature.outputs) == file.outputs


def test_output_tensors_carry_the_output_names():
    file = check_float(seeded(), *INPUTS).file
    assert [file.tensors[index].name for index in file.outputs] == ["scores", "features"]


# --- ModelFile --------------------------------------------------------------------------------------------------------
def test_equal_constants_share_a_tensor():
    file = ModelFile("m")
    assert file.constant("a", np.ones(3, np.float32)) == file.constant("b", np.ones(3, np.float32))
    assert file.constant("a", np.ones(3, np.float32)) != file.constant("c", np.zeros(3, np.float32))


def test_equal_bytes_of_other_shape_type_or_scale_share_a_buffer():
    file = ModelFile("m")
    plain = file.constant("a", np.zeros((2, 2), np.float32))
    others = [
        file.constant("b", np.zeros(4, np.float32)),
        file.constant("c", np.zeros((2, 2), np.int32)),
        file.constant("d", np.zeros((2, 2), np.int32), QuantParams((0.5,), 0, None, "int32")),
    ]
    assert len({plain, *others}) == 4
    assert len({file.subgraph.tensors[index].buffer for index in (plain, *others)}) == 1


def test_a_strided_array_is_stored_in_its_logical_order():
    file = ModelFile("m")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert file.constant("a", array.T) == file.constant("b", np.ascontiguousarray(array.T))
