import pytest
import torch

from cadlib.errors import TrainingFailed
from cadlib.training import checkpoint


def stepped(seed):
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(3):
        module(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
    return module, optimizer


def test_weights_buffers_and_moments_are_restored_exactly(tmp_path):
    path = tmp_path / "run" / "checkpoint.safetensors"
    module, optimizer = stepped(0)
    checkpoint.save(path, {"network": module.state_dict()}, optimizer, {"step": 3})
    restored, restored_optimizer = stepped(1)
    checkpoint.restore(path, {"network": restored}, restored_optimizer)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, restored.state_dict()[name])
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, restored_optimizer.state_dict()["state"][index][name])
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
def test_reports_a_missing_or_damaged_checkpoint(tmp_path, content):
    path = tmp_path / "checkpoint.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingFailed, match="without --resume"):
        checkpoint.read_facts(path)


@pytest.fixture
def saved(tmp_path):
    """Return the path of a checkpoint of step 4, with the one of step 3 kept beside it."""
    path = tmp_path / "checkpoint.safetensors"
    module, optimizer = stepped(0)
    for step in (3, 4):
        checkpoint.save(path, {"network": module.state_dict()}, optimizer, {"step": step})
    return path


def test_the_checkpoint_before_is_kept(saved):
    assert checkpoint.read_facts(saved) == {"step": 4}
    assert checkpoint.read_facts(checkpoint.previous(saved)) == {"step": 3}


def test_every_flipped_bit_is_refused_with_advice(saved):
    data = saved.read_bytes()
    module, optimizer = stepped(1)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for place in range(0, len(data), 7):
        altered = bytearray(data)
        altered[place] ^= 1 << (place % 8)
        saved.write_bytes(altered)
        with pytest.raises(
            TrainingFailed,
            match=r"Rename checkpoint\.previous\.safetensors to checkpoint\.safetensors",
        ):
            checkpoint.restore(saved, {"network": module}, optimizer)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_checkpoint_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(TrainingFailed, match="Rename"):
        checkpoint.read_facts(saved)


def test_renaming_the_checkpoint_before_goes_on_from_it(saved):
    saved.write_bytes(b"damaged")
    checkpoint.previous(saved).rename(saved)
    assert checkpoint.read_facts(saved) == {"step": 3}


def test_a_checkpoint_of_another_run_is_not_kept(saved):
    module, optimizer = stepped(0)
    checkpoint.save(
        saved, {"network": module.state_dict()}, optimizer, {"step": 1}, keep_previous=False
    )
    assert not checkpoint.previous(saved).exists()


def test_a_damaged_only_checkpoint_advises_to_start_again(saved):
    checkpoint.previous(saved).unlink()
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(TrainingFailed, match="--overwrite"):
        checkpoint.read_facts(saved)


def test_a_checkpoint_of_an_earlier_version_is_taken_with_a_warning(saved):
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved)
    save_file(tensors, saved, metadata={"facts": '{"step": 4}'})
    module, optimizer = stepped(1)
    with pytest.warns(UserWarning, match="without a checksum"):
        assert checkpoint.read_facts(saved) == {"step": 4}
    with pytest.warns(UserWarning, match="without a checksum"):
        checkpoint.restore(saved, {"network": module}, optimizer)
    assert torch.equal(module.state_dict()["0.weight"], tensors["network/0.weight"])


def test_a_disk_without_links_still_saves(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(checkpoint.os, "link", no_links)
    path = tmp_path / "checkpoint.safetensors"
    module, optimizer = stepped(0)
    for step in (3, 4):
        checkpoint.save(path, {"network": module.state_dict()}, optimizer, {"step": step})
    assert checkpoint.read_facts(path) == {"step": 4}
