import pytest
import torch

from cadlib import checkpoint
from cadlib.errors import TrainingFailed


def stepped(seed):
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(3):
        module(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
    return module, optimizer


def test_weights_buffers_and_moments_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "run" / "checkpoint.safetensors"
    module, optimizer = stepped(0)
    checkpoint.save(path, {"network": module.state_dict()}, optimizer, {"step": 3})
    other, other_optimizer = stepped(1)
    checkpoint.restore(path, {"network": other}, other_optimizer)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other_optimizer.state_dict()["state"][index][name])
    assert checkpoint.read_facts(path) == {"step": 3}


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    module, optimizer = stepped(0)
    checkpoint.save(path, {"network": module.state_dict()}, optimizer, {"step": 3})

    def full(_tensors, aside, **_):
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainingFailed, match="--resume"):
        checkpoint.save(path, {"network": module.state_dict()}, optimizer, {"step": 4})
    assert checkpoint.read_facts(path) == {"step": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_missing_or_broken_checkpoint_is_said(tmp_path, content):
    path = tmp_path / "checkpoint.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingFailed, match="without --resume"):
        checkpoint.read_facts(path)
