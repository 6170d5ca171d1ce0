"""Runs fcnjax's commands, and reads what they print."""

import re

from fcnjax.cli import main


def run(capsys, *words):
  code = main.main([str(word) for word in words])
  printed = capsys.readouterr()
  return code, printed.out, printed.err


def fails(capsys, *words):
  """Expects exit code 2 and one line; returns it."""
  code, _, line = run(capsys, *words)
  assert code == 2
  assert line.startswith("fcnjax: ")
  assert line.count("\n") == 1
  return line


def bars(text):
  """Returns {words: what the bar with them counted to}."""
  found = re.findall(r"([\w. -]+): 100%[^\r]*?\| ([\d.k]+/[\d.k]+) \[", text)
  return {words.strip(): counted for words, counted in found}
