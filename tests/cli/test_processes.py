"""Words and environments that make a command one of several processes."""

import pytest

from fcnjax import errors
from fcnjax.cli import main, parser, processes

EVALUATE = ["evaluate", "--workdir=missing"]


def _words(*words):
  return processes.words(parser.create().parse_args([*EVALUATE, *words]))


def test_one_process_alone_needs_no_word():
  assert _words() is None


def test_words_and_environment_say_the_same(monkeypatch):
  told = {"coordinator": "node7:1234", "processes": 4, "process": 3}
  assert _words("--coordinator=node7:1234", "--processes=4", "--process=3") == (
    told
  )
  assert _words("--distributed") == {}
  monkeypatch.setenv("FCNJAX_DISTRIBUTED", "1")
  assert _words() == {}
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "node7:1234")
  assert _words() == told | {"processes": None, "process": None}
  monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
  monkeypatch.setenv("JAX_PROCESS_ID", "3")
  assert _words() == told


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--coordinator=node7:1"], "--coordinator without --processes"),
    (["--process=0", "--processes=2"], "without --coordinator"),
    (["--distributed", "--process=0"], "--distributed finds out by itself"),
    (["--coordinator=node7", "--processes=2", "--process=0"], "HOST:PORT"),
    (["--coordinator=n:99999", "--processes=2", "--process=0"], "HOST:PORT"),
    (["--coordinator=n:1", "--processes=2", "--process=2"], "give 0 to 1"),
    (["--coordinator=n:1", "--processes=0", "--process=0"], "at least 1"),
  ],
)
def test_wrong_words_are_told_in_one_line(capsys, words, message):
  assert main.main([*EVALUATE, *words]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("fcnjax: ")
  assert message in line


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("FCNJAX_DISTRIBUTED", "yes"),
    ("JAX_COORDINATOR_ADDRESS", "node7"),
  ],
)
def test_a_wrong_environment_is_the_users(monkeypatch, name, value):
  monkeypatch.setenv(name, value)
  with pytest.raises(errors.InputError, match=value):
    _words()
