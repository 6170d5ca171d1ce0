"""Runs of several real processes: the same as those of one.

Evaluation and prediction are the same to the bit: each image is one process's.
A step is equal to rounding: what devices hold is added in another order, and
the programs of a process with other devices divide their work otherwise.
"""

import functools
import json
import shutil
import signal
import socket
import time

import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import main
from tests.integration import small_runs

STEPS = 6
ARGUMENTS = [
  "--config=configs/unet.py:folder",
  "--config.log_every=1",
  "--config.eval_every=3",
  "--config.checkpoint_every=3",
  "--config.model.options.width=16",  # Some parameters are enough to be cut.
  "--config.model.options.depth=1",
  "--config.model.options.dropout=0.5",
  "--config.ema_decay=0.9",
  "--config.optimizer.schedule=constant",
  "--config.data.sampling=class_balanced",
  "--config.data.val_fraction=0.3",
  "--config.data.resident=on",  # without TensorFlow, whose import takes longest
  "--config.data.transforms=(('random_crop',{'size':(32,32)}),('flip',{}))",
]
# A process that lost another must end within so many seconds.
BOUND = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return small_runs.folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  """Starts one command as several processes, of `devices` each."""
  compiled = tmp_path_factory.mktemp("compiled")

  def started(count, *words, devices=1):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      address = f"localhost:{free.getsockname()[1]}"
    return [
      small_runs.start(
        *("-m", "fcnjax", *words),
        *(f"--coordinator={address}", f"--processes={count}"),
        f"--process={index}",
        compiled=compiled,
        devices=devices,
      )
      for index in range(count)
    ]

  return started


def _ends(processes, codes, *, output=False):
  """Waits for the processes; returns what each printed to stderr, or stdout."""
  said = []
  for process, code in zip(processes, codes, strict=True):
    out, error = process.communicate(timeout=200)
    assert process.returncode == code, error
    said.append((out, error))
  assert not any(out for out, _ in said[1:])  # the first one's alone
  return [out if output else error for out, error in said]


def _alone(workdir, data, *words):
  """A run of one process: this one."""
  words = [*ARGUMENTS, *data, f"--workdir={workdir}", *words]
  assert main.main(["train", *words]) == 0


def _assert_same(workdir, other, *, step=STEPS, rtol):
  ours, theirs = (small_runs.records(path) for path in (workdir, other))
  assert [(r["step"], r["split"]) for r in ours] == [
    (r["step"], r["split"]) for r in theirs
  ]
  for own, one in zip(ours, theirs):
    for name in own.keys() - {"split"}:
      # An IoU that is null is NaN.
      found, expected = (np.array(r[name], float) for r in (own, one))
      np.testing.assert_allclose(found, expected, rtol=rtol, err_msg=name)
  ours, theirs = (small_runs.state(path, step) for path in (workdir, other))
  assert len(ours) == len(theirs)
  for own, one in zip(ours, theirs):
    np.testing.assert_allclose(own, one, rtol=rtol, atol=rtol)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data):
  """A run of one process with eight devices, and its masks of all images.

  Rows are spread over two devices, parameters are cut over four.
  """
  workdir = tmp_path_factory.mktemp("alone")
  words = [f"--config.steps={STEPS}", "--config.batch_size=8"]
  words += ["--config.mesh.space=2", "--config.mesh.shard_parameters=True"]
  _alone(workdir, data, *words)
  words = [f"--workdir={workdir}", _images(data), f"--output={workdir}/masks"]
  assert main.main(["predict", *words]) == 0
  return workdir


def _images(data):
  return next(word for word in data if "images=" in word).split("=")[1]


def _wait_for(workdir, step, processes):
  deadline = time.monotonic() + 200
  while not any(r["step"] >= step for r in small_runs.records(workdir)):
    assert time.monotonic() < deadline
    for process in processes:
      assert process.poll() is None, process.communicate()
    time.sleep(0.01)


def test_stopped_and_killed_two_go_on_as_one(
  start, data, tmp_path_factory, tmp_path
):
  """SIGTERM reaches one of them; then one is killed, then the other.

  In the end one process resumes, as if there had never been another.
  """
  steps = 40
  words = [*ARGUMENTS, *data, f"--config.steps={steps}"]
  words += ["--config.batch_size=4", "--config.eval_every=20"]
  words += ["--config.model.options.width=2"]  # Rounding grows in 40 steps.
  run = functools.partial(start, 2, "train", *words, f"--workdir={tmp_path}")

  processes = run()
  _wait_for(tmp_path, 3, processes)
  processes[1].send_signal(signal.SIGTERM)
  first, second = _ends(processes, [75, 75])
  assert "SIGTERM at step" in first
  assert "SIGTERM" not in second  # is told once
  (step,) = (int(p.name) for p in (tmp_path / "checkpoints").iterdir())
  assert step == small_runs.records(tmp_path)[-1]["step"]

  for number, killed in enumerate((1, 0), start=1):
    processes = run()
    _wait_for(tmp_path, step + 6 * number, processes)
    processes[killed].kill()
    began = time.monotonic()
    out, error = processes[1 - killed].communicate(timeout=BOUND)
    assert time.monotonic() - began < BOUND
    assert processes[1 - killed].returncode == 1, error
    assert "fcnjax: " in error.splitlines()[-1]
    assert "start all again" in error.splitlines()[-1]
    assert "Traceback" not in error
    processes[killed].communicate()

  alone = tmp_path_factory.mktemp("uninterrupted")
  words = [f"--config.steps={steps}", "--config.batch_size=4"]
  words += ["--config.eval_every=20", "--config.mesh.data=2"]
  words += ["--config.model.options.width=2"]
  for workdir in (tmp_path, alone):
    _alone(workdir, data, *words)
  _assert_same(tmp_path, alone, step=steps, rtol=1e-5)
  for name in ("evaluation.json", "overlays", "report/index.html"):
    assert (tmp_path / name).exists()
  own, one = (
    json.loads((path / "evaluation.json").read_text())
    for path in (tmp_path, alone)
  )
  assert own == one


def test_four_processes_train_as_one(start, data, alone, tmp_path):
  """Each holds, and saves, a fourth of the parameters."""
  words = [*ARGUMENTS, *data, f"--config.steps={STEPS}"]
  words += ["--config.batch_size=8", f"--workdir={tmp_path}"]
  words += ["--config.mesh.shard_parameters=True"]
  _ends(start(4, "train", *words), [0] * 4)
  _assert_same(tmp_path, alone, rtol=1e-5)


def test_another_number_of_devices_and_hosts_goes_on(
  start, data, alone, tmp_path
):
  """Of what one process with eight devices saved at step 3."""
  two, one = (tmp_path / name for name in ("two", "one"))
  for copy in (two, one):
    shutil.copytree(alone, copy)
    shutil.rmtree(copy / "checkpoints" / f"{STEPS}")
  words = ["--config.batch_size=8", f"--config.steps={STEPS}"]
  processes = start(
    *(2, "train", *ARGUMENTS, *data, *words, f"--workdir={two}"),
    *("--config.mesh.space=2", "--config.mesh.shard_parameters=True"),
    devices=4,
  )
  _alone(one, data, *words, "--config.mesh.data=1")
  assert "at step 3 of 6" in _ends(processes, [0, 0], output=True)[0]
  _assert_same(one, alone, rtol=1e-5)
  _assert_same(two, alone, rtol=1e-5)


def test_each_process_reads_its_slice(start, data, tmp_path):
  """Of files, by tf.data; the others above hold the set on their devices."""
  words = [*ARGUMENTS, *data, "--config.steps=3", "--config.batch_size=4"]
  words += ["--config.data.resident=off", "--config.model.options.width=2"]
  two, one = (tmp_path / name for name in ("two", "one"))
  processes = start(2, "train", *words, f"--workdir={two}")
  _alone(one, [], *words, "--config.mesh.data=2")
  _ends(processes, [0, 0])
  _assert_same(two, one, step=3, rtol=1e-5)


def test_two_processes_evaluate_as_one(start, alone, tmp_path):
  """Nine images, which do not divide."""
  own = tmp_path / "run"
  shutil.copytree(alone, own)
  (own / "evaluation.json").unlink()
  _ends(start(2, "evaluate", f"--workdir={own}"), [0, 0])
  found, expected = (
    json.loads((path / "evaluation.json").read_text()) for path in (own, alone)
  )
  assert found["images"] % 2
  assert found == expected


def test_three_processes_predict_as_one(start, data, alone, tmp_path):
  """26 inputs, one of which no one can read."""
  torn, more = tmp_path / "torn.png", tmp_path / "more.png"
  torn.write_bytes(b"no picture")
  PIL.Image.new("RGB", (20, 30)).save(more)
  words = [f"--workdir={alone}", torn, more, _images(data)]
  words += [f"--output={tmp_path}/masks", "--no-overlays"]
  said = _ends(start(3, "predict", *words), [2] * 3)
  assert "1 of 26 images could not be read" in said[0]
  assert "torn.png" in said[0]
  assert not any("torn.png" in error for error in said[1:])
  record = json.loads((tmp_path / "masks/predictions.json").read_text())
  masks = sorted(path.name for path in (tmp_path / "masks").glob("*.png"))
  assert sorted(record["files"]) == masks
  assert len(masks) == 25
  for file in (alone / "masks").glob("*.png"):
    own, one = (
      PIL.Image.open(tmp_path / "masks" / file.name),
      PIL.Image.open(file),
    )
    np.testing.assert_array_equal(own, one)


def test_a_mistake_on_one_host_ends_all(start, data, tmp_path):
  words = ["train", *ARGUMENTS, *data, f"--workdir={tmp_path}/run"]
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  processes = [
    small_runs.start(
      *("-m", "fcnjax", *words, f"--config.data.masks={masks}"),
      *(f"--coordinator={address}", "--processes=2", f"--process={index}"),
    )
    for index, masks in enumerate((data[1].split("=")[1], tmp_path / "none"))
  ]
  began = time.monotonic()
  first, second = _ends(processes, [1, 2])
  assert time.monotonic() - began < BOUND
  (line,) = second.splitlines()
  assert f"{tmp_path}/none" in line
  assert "Traceback" not in first
  assert not (tmp_path / "run" / "config.json").exists()
