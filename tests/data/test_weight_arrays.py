from __future__ import annotations

import pickle

import pytest
import torch

from data.weight_arrays import to_arrays, to_tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
def test_tensors_come_back_with_type_shape_and_bits(dtype: torch.dtype) -> None:
    tensors = {
        "matrix": torch.arange(12).reshape(3, 4).to(dtype),
        "transposed": torch.arange(6).reshape(2, 3).to(dtype).t(),
        "scalar": torch.tensor(7).to(dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
    }
    back = to_tensors(pickle.loads(pickle.dumps(to_arrays(tensors))))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], tensor)


def test_memory_is_shared_and_not_copied() -> None:
    tensor = torch.zeros(4)
    back = to_tensors(to_arrays({"x": tensor}))["x"]
    tensor[2] = 5.0
    assert back.tolist() == [0, 0, 5, 0]


def test_arrays_that_cannot_be_written_to_are_taken_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    arrays = to_arrays({"x": torch.ones(3)})
    arrays["x"][2].setflags(write=False)
    assert to_tensors(arrays)["x"].tolist() == [1, 1, 1]
    assert not recwarn.list


def test_a_tensor_among_arrays_stays_as_it_is() -> None:
    tensor = torch.ones(2)
    assert to_tensors({"x": tensor})["x"] is tensor
