import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from portalocker import Lock

from cadlib.__main__ import main
from cadlib.errors import TrainingFailed
from cadlib.images.preprocess import to_array
from cadlib.model.record import SPLIT_FILE, read_record
from cadlib.taxonomy import CODES
from cadlib.training import checkpoint, loop, run
from cadlib.training.checkpoint import previous
from cadlib.training.config import TrainConfig
from cadlib.training.loop import normalise, train
from cadlib.training.monitor import CURVES_FOLDER, RunReader, State
from cadlib.training.processes import Stopped, StopRequest, check_temporary_folder
from cadlib.training.run import CHECKPOINT_FILE, HISTORY_FILE, Curves
from tests.tiny_training import TINY, flags

ROOT = Path(__file__).parent.parent
CONFIG = TrainConfig(**TINY)
pytestmark = pytest.mark.usefixtures("same_graphs")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def stop_after(monkeypatch):
    """Let Ctrl-C be pressed in step `n` of the runs that follow."""

    def press(n):
        class Pressed(StopRequest):
            def __init__(self):
                self.left = n

            @property
            def requested(self):
                self.left -= 1
                return self.left < 0

        monkeypatch.setattr(loop, "StopRequest", Pressed)

    return press


def history(run_dir):
    return [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]


def test_a_resumed_run_has_the_same_result(synthetic_dataset, tmp_path, stop_after):
    uninterrupted = train(synthetic_dataset, tmp_path / "whole", CONFIG)
    stop_after(4)
    with pytest.raises(Stopped, match="after step 5 of 6; go on with --resume"):
        train(synthetic_dataset, tmp_path / "parts", CONFIG)
    stop_after(1000)
    resumed = train(synthetic_dataset, tmp_path / "parts", CONFIG, resume=True)
    for name, tensor in uninterrupted.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    assert np.array_equal(uninterrupted.validation_logits, resumed.validation_logits)
    assert [row["epoch"] for row in history(tmp_path / "parts")] == [1, 2]


def test_a_run_of_an_earlier_version_without_a_setting_is_resumed(
    synthetic_dataset, tmp_path, stop_after, monkeypatch
):
    stop_after(2)
    with pytest.raises(Stopped):
        train(synthetic_dataset, tmp_path, CONFIG)
    read_facts = checkpoint.read_facts

    def earlier_facts(path):
        facts = read_facts(path)
        assert facts["identity"].pop("teacher") == ""
        return facts

    monkeypatch.setattr(checkpoint, "read_facts", earlier_facts)
    with pytest.raises(TrainingFailed, match="teacher '', not 'three'"):
        run.Run.check(tmp_path / CHECKPOINT_FILE, replace(CONFIG, teacher="three").recipe())
    facts = run.Run.check(tmp_path / CHECKPOINT_FILE, CONFIG.recipe())
    assert facts["step"] == 3


def test_a_resumed_run_records_every_commit(synthetic_dataset, tmp_path, stop_after, monkeypatch):
    monkeypatch.setattr(run, "git_commit", lambda: "first")
    stop_after(2)
    with pytest.raises(Stopped):
        train(synthetic_dataset, tmp_path, CONFIG)
    monkeypatch.setattr(run, "git_commit", lambda: "second")
    stop_after(1000)
    assert train(synthetic_dataset, tmp_path, CONFIG, resume=True).git_commit == "first then second"


def reading(run_dir):
    return RunReader(run_dir, run_dir.name).read()


def test_the_curves_have_the_values_of_the_history(synthetic_dataset, tmp_path):
    train(synthetic_dataset, tmp_path, CONFIG)
    monitored = reading(tmp_path)
    rows = history(tmp_path)
    for name in ("loss", "validation_loss", "balanced_accuracy", "malignant_auc"):
        curve = monitored.curves[f"epoch/{name}"]
        assert curve.steps == (3, 6)
        assert curve.epochs == (1, 2)
        assert curve.values == pytest.approx([row[name] for row in rows], rel=1e-6)
    assert monitored.state is State.FINISHED
    assert (monitored.step, monitored.steps, monitored.steps_per_epoch) == (6, 6, 3)
    assert {name: monitored.settings[name] for name in TINY} == TINY
    rates = [CONFIG.learning_rate_at(step - 1, 6) for step in (3, 6)]
    assert monitored.curves["step/learning_rate"].values == pytest.approx(rates, rel=1e-6)
    assert min(monitored.curves["step/images_per_second"].values) > 0


def test_a_curve_has_a_point_every_few_steps_and_at_the_end_of_an_epoch(
    synthetic_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "NOTE_STEPS", 2)
    train(synthetic_dataset, tmp_path, CONFIG)
    curve = reading(tmp_path).curves["step/loss"]
    assert curve.steps == (2, 3, 5, 6)
    first, second = [row["loss"] for row in history(tmp_path)]
    assert (2 * curve.values[0] + curve.values[1]) / 3 == pytest.approx(first, rel=1e-6)
    assert (2 * curve.values[2] + curve.values[3]) / 3 == pytest.approx(second, rel=1e-6)


def test_the_validation_loss_is_that_of_training_without_variation(synthetic_dataset, tmp_path):
    trained = train(synthetic_dataset, tmp_path, TrainConfig(**TINY, logit_adjustment=0.0))
    truth = trained.data.labels[trained.data.rows("validation")]
    logits = trained.validation_logits.astype(float)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(shares[np.arange(len(truth)), truth]).mean()
    assert history(tmp_path)[-1]["validation_loss"] == pytest.approx(expected, rel=1e-3)


def test_a_resumed_run_has_each_step_once(synthetic_dataset, tmp_path, stop_after, monkeypatch):
    monkeypatch.setattr(loop, "NOTE_STEPS", 1)
    stop_after(3)
    with pytest.raises(Stopped, match="after step 4"):
        train(synthetic_dataset, tmp_path, CONFIG)
    shutil.copy(tmp_path / CHECKPOINT_FILE, tmp_path / "earlier")
    reader = RunReader(tmp_path, "watched")
    before_resume = reader.read()
    assert before_resume.state is State.STOPPED
    assert before_resume.step == 4
    assert before_resume.curves["step/loss"].steps == (1, 2, 3, 4)

    # The second run is killed before it can save a checkpoint.
    stop_after(0)
    with pytest.raises(Stopped, match="after step 5"):
        train(synthetic_dataset, tmp_path, CONFIG, resume=True)
    shutil.copy(tmp_path / "earlier", tmp_path / CHECKPOINT_FILE)
    assert reader.read().step == 5
    stop_after(1000)
    train(synthetic_dataset, tmp_path, CONFIG, resume=True)
    # One reader has watched the run, the other opens it afterwards.
    check_finished_run(reader.read(), before_resume.started)
    check_finished_run(reading(tmp_path), before_resume.started)


def check_finished_run(monitored, started):
    """Check that a run of six steps has finished, with each step once."""
    assert monitored.state is State.FINISHED
    assert monitored.curves["step/loss"].steps == (1, 2, 3, 4, 5, 6)
    assert monitored.curves["epoch/loss"].epochs == (1, 2)
    assert monitored.started == started


def test_resumes_after_a_half_written_line_of_history(
    synthetic_dataset, tmp_path, stop_after, capsys
):
    stop_after(4)
    with pytest.raises(Stopped, match="after step 5"):
        train(synthetic_dataset, tmp_path, CONFIG)
    with (tmp_path / HISTORY_FILE).open("a") as file:
        file.write('{"epoch": 2, "lo')
    stop_after(1000)
    train(synthetic_dataset, tmp_path, CONFIG, resume=True)
    assert [row["epoch"] for row in history(tmp_path)] == [1, 2]
    printed = "".join(capsys.readouterr())
    assert "its last line is half written" in printed


def test_resumes_from_the_checkpoint_before_a_damaged_one(synthetic_dataset, tmp_path, stop_after):
    stop_after(3)
    with pytest.raises(Stopped, match="after step 4"):
        train(synthetic_dataset, tmp_path, CONFIG)
    stop_after(0)
    with pytest.raises(Stopped, match="after step 5"):
        train(synthetic_dataset, tmp_path, CONFIG, resume=True)
    path = tmp_path / CHECKPOINT_FILE
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    stop_after(1000)
    with pytest.raises(TrainingFailed, match="Rename checkpoint.previous.safetensors"):
        train(synthetic_dataset, tmp_path, CONFIG, resume=True)
    previous(path).rename(path)
    train(synthetic_dataset, tmp_path, CONFIG, resume=True)
    assert [row["epoch"] for row in history(tmp_path)] == [1, 2]


def test_a_restarted_run_deletes_the_former_one(synthetic_dataset, tmp_path):
    train(synthetic_dataset, tmp_path, CONFIG)
    reader = RunReader(tmp_path, "watched")
    assert reader.read().epochs == 2
    train(synthetic_dataset, tmp_path, TrainConfig(**{**TINY, "epochs": 1}))
    for monitored in (reader.read(), reading(tmp_path)):
        assert monitored.epochs == 1
        assert monitored.curves["epoch/loss"].epochs == (1,)


def test_a_reader_finds_points_that_were_written_within_the_same_second(tmp_path):
    reader = RunReader(tmp_path, "watched")
    for step in range(1, 4):  # three sittings, each a file of its own
        curves = Curves(
            tmp_path / CURVES_FOLDER,
            {"settings": {}, "steps": 3, "steps_per_epoch": 1, "host": ""},
            step - 1,
        )
        curves.write(step, {"step/loss": 1.0})
        curves.close()
        assert reader.read().step == step
    seconds = [path.name.split(".")[3] for path in (tmp_path / CURVES_FOLDER).glob("events.*")]
    assert len(set(seconds)) == len(seconds) == 3


def test_two_processes_do_not_train_in_one_folder(synthetic_dataset, tmp_path):
    (tmp_path / CURVES_FOLDER).mkdir()
    with (
        Lock(tmp_path / CURVES_FOLDER / "lock", "a"),
        pytest.raises(TrainingFailed, match="nobody else to train in"),
    ):
        train(synthetic_dataset, tmp_path, CONFIG)
    assert not (tmp_path / SPLIT_FILE).exists()


def test_training_lowers_the_loss(synthetic_dataset, tmp_path):
    train(synthetic_dataset, tmp_path, TrainConfig(**{**TINY, "epochs": 8, "learning_rate": 3e-3}))
    losses = [row["loss"] for row in history(tmp_path)]
    assert losses[-1] < 0.9 * losses[0]


def test_refuses_to_resume_with_other_settings(synthetic_dataset, tmp_path, stop_after):
    stop_after(0)
    with pytest.raises(Stopped):
        train(synthetic_dataset, tmp_path, CONFIG)
    split = (tmp_path / SPLIT_FILE).read_bytes()
    with pytest.raises(TrainingFailed, match=r"learning_rate 0\.001, not 0\.1"):
        train(synthetic_dataset, tmp_path, TrainConfig(**TINY, learning_rate=0.1), resume=True)
    with pytest.raises(TrainingFailed, match="seed 0, not 1"):
        train(synthetic_dataset, tmp_path, TrainConfig(**TINY, seed=1), resume=True)
    assert (tmp_path / SPLIT_FILE).read_bytes() == split


def test_refuses_to_resume_without_a_checkpoint(synthetic_dataset, tmp_path):
    with pytest.raises(TrainingFailed, match="start without --resume"):
        train(synthetic_dataset, tmp_path, CONFIG, resume=True)


def test_the_logit_adjustment_takes_the_advantage_from_the_frequent_class(
    synthetic_dataset, tmp_path
):
    folder = Path(shutil.copytree(synthetic_dataset, tmp_path / "uneven"))
    path = next(folder.glob("*GroundTruth.csv"))
    labels = pd.read_csv(path)
    labels[(labels["NV"] == 1) | (labels.groupby(list(CODES)).cumcount() < 5)].to_csv(
        path, index=False
    )

    def mean_nevus_logit(adjustment):
        config = TrainConfig(**TINY, logit_adjustment=adjustment)
        logits = train(folder, tmp_path / f"run {adjustment}", config).validation_logits
        return (logits[:, CODES.index("NV")] - logits.mean(axis=1)).mean()

    assert mean_nevus_logit(1.0) < mean_nevus_logit(0.0)


def test_a_batch_is_normalised_as_in_prediction(synthetic_dataset, tmp_path):
    trained = train(synthetic_dataset, tmp_path, TrainConfig(**{**TINY, "epochs": 1}))
    pixels = trained.data.pixels[:4]
    batch = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), trained.spec)
    assert torch.equal(batch, torch.from_numpy(to_array(pixels, trained.spec)))


def command_line(data, run_dir, *more):
    """Return the words of a command that trains the tiny network; later words win.

    The images stay small, because these runs have many epochs.
    """
    where = {"data": data, "name": "tiny", "run_dir": run_dir}
    return ["train", *flags({**where, **TINY, "last_px": 32}), *more]


def start(data, run_dir, models, *more):
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cadlib", *command_line(data, run_dir, *more)],
        cwd=ROOT,
        env={**os.environ, "CADLIB_MODELS": str(models)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_saved(running, run_dir):
    deadline = time.monotonic() + 120
    while not (run_dir / CHECKPOINT_FILE).exists() and time.monotonic() < deadline:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.05)


def stop_once_saved(running, run_dir):
    """Press Ctrl-C as soon as there is a checkpoint; return the last messages of the command."""
    wait_until_saved(running, run_dir)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    return errors


# After the first checkpoint a run of so many epochs goes on for long enough to be stopped.
EPOCHS = 20


@pytest.mark.timeout(300)
def test_ctrl_c_stops_cleanly_and_resume_writes_the_model(
    synthetic_dataset, tmp_path, monkeypatch, capsys, few_draws
):
    run_dir = tmp_path / "run"
    models = tmp_path / "models"
    epochs = ("--epochs", str(EPOCHS))
    running = start(synthetic_dataset, run_dir, models, *epochs, "--workers", "2")
    errors = stop_once_saved(running, run_dir)
    assert running.returncode == 130
    assert "go on with --resume" in errors
    assert "Traceback" not in errors
    assert not models.exists()

    monkeypatch.setenv("CADLIB_MODELS", str(models))
    line = command_line(synthetic_dataset, run_dir, *epochs)
    assert main(line) == 2
    message = "continue with --resume, or start again with --overwrite"
    assert message in capsys.readouterr().err

    assert main([*line, "--workers", "2", "--resume"]) == 0
    assert "Resumed at step" in capsys.readouterr().out
    assert read_record(models / "tiny").members[0].run.epochs == EPOCHS
    assert [row["epoch"] for row in history(run_dir)] == list(range(1, EPOCHS + 1))


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lets the system refuse a running process more bytes"
)
def test_a_full_disk_stops_the_run_and_it_can_be_resumed(
    synthetic_dataset, tmp_path, monkeypatch, capsys, few_draws
):
    import resource

    run_dir = tmp_path / "run"
    models = tmp_path / "models"
    epochs = ("--epochs", str(EPOCHS))
    running = start(synthetic_dataset, run_dir, models, *epochs)
    wait_until_saved(running, run_dir)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 1
    assert "could not be written" in errors
    assert "Make room on the disk and go on with --resume" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in run_dir.iterdir()) == [
        CHECKPOINT_FILE,
        CURVES_FOLDER,
        HISTORY_FILE,
        SPLIT_FILE,
    ]
    assert not models.exists()

    monkeypatch.setenv("CADLIB_MODELS", str(models))
    assert main(command_line(synthetic_dataset, run_dir, *epochs, "--resume")) == 0
    assert "Resumed at step" in capsys.readouterr().out
    assert read_record(models / "tiny").members[0].run.epochs == EPOCHS


@pytest.mark.timeout(300)
def test_ctrl_c_stops_two_processes_with_a_checkpoint(synthetic_dataset, tmp_path):
    two = ("--devices", "2", "--strategy", "ddp", "--epochs", "500")
    running = start(synthetic_dataset, tmp_path / "run", tmp_path / "models", *two)
    errors = stop_once_saved(running, tmp_path / "run")
    assert running.returncode == 130, errors
    assert "go on with --resume" in errors


@pytest.mark.timeout(300)
def test_two_processes_train_together_and_write_one_model(synthetic_dataset, tmp_path):
    running = start(
        synthetic_dataset,
        tmp_path / "run",
        tmp_path / "models",
        "--devices",
        "2",
        "--strategy",
        "ddp",
        "--epochs",
        "1",
    )
    output, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert "Model written to" in output
    record = read_record(tmp_path / "models" / "tiny")
    assert record.members[0].run.config["devices"] == 2
    assert [folder.name for folder in (tmp_path / "models").iterdir()] == ["tiny"]


def test_a_temporary_folder_with_a_long_path_is_refused_before_training(
    synthetic_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("a" * 90)))
    with pytest.raises(TrainingFailed, match="Set TMPDIR to a shorter one"):
        train(synthetic_dataset, tmp_path / "run", replace(CONFIG, workers=1))
    check_temporary_folder(0)  # without workers there are no sockets
