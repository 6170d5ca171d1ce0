"""Silence is told once, with what was waited for; a busy run is left alone."""

import time

import pytest

from fcnjax.training import watchdog


def _until(condition):
  deadline = time.monotonic() + 20
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def test_a_hang_is_told_once_with_what_hangs(tmp_path):
  told = []
  file = tmp_path / "hang.txt"
  with watchdog.Watchdog(0.2, told.append, file) as dog:
    dog.at("step 7 on the device")
    _until(lambda: told)
    time.sleep(0.5)
    (line,) = told
    assert "waiting for step 7 on the device" in line
    assert str(file) in line
    assert "test_watchdog.py" in file.read_text()
    dog.at("the batch of step 9")
    _until(lambda: len(told) == 2)
    assert "the batch of step 9" in told[1]


def test_a_run_that_goes_on_is_left_alone(tmp_path):
  told = []
  with watchdog.Watchdog(1.0, told.append, tmp_path / "hang.txt") as dog:
    time.sleep(1.5)  # Not begun yet.
    for step in range(20):
      dog.at(f"step {step}")
      time.sleep(0.1)
  assert told == []
  assert not (tmp_path / "hang.txt").exists()


def test_a_clock_that_jumps_is_no_hang(tmp_path, monkeypatch):
  told = []
  with watchdog.Watchdog(1.0, told.append, tmp_path / "hang.txt") as dog:
    dog.at("step 1")
    now = time.time()
    for jump in (1e6, -1e6):
      monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
      time.sleep(0.3)
  assert told == []


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_file_that_cannot_be_written_is_said_too(tmp_path, seconds):
  told = []
  file = tmp_path / "none" / "hang.txt"
  with watchdog.Watchdog(seconds, told.append, file) as dog:
    dog.at("step 1")
    if seconds:
      _until(lambda: told)
      assert "cannot be written (No such file" in told[0]
  assert bool(told) == bool(seconds)
