"""fcnjax COMMAND: what is wrong with a command is told in one line."""

import pytest

from fcnjax.cli import main


@pytest.mark.parametrize(
  ("words", "prog", "message"),
  [
    ([], "fcnjax", "COMMAND"),
    (["trian"], "fcnjax", "'trian'"),
    (["train"], "fcnjax train", "--config, --workdir"),
    (["evaluate", "--workdir=x", "--split=eval"], "fcnjax evaluate", "'val'"),
    (["predict", "--workdir=x", "--output=y"], "fcnjax predict", "INPUT"),
    (["check-data"], "fcnjax check-data", "--config"),
    (["prepare", "--data-dir"], "fcnjax prepare", "--data-dir"),
    (["prepare-folder", "--config=x"], "fcnjax prepare-folder", "--output"),
    (["show-data", "--config=x", "--count=y"], "fcnjax show-data", "--count"),
    (["models", "--size", "3"], "fcnjax models", "--size"),
    (["models", "--sizes=3"], "fcnjax models", "'--sizes=3'"),
  ],
)
def test_a_wrong_command_is_told_in_one_line(capsys, words, prog, message):
  try:
    code = main.main(words)
  except SystemExit as ended:
    code = ended.code
  assert code == 2
  said = capsys.readouterr()
  assert said.out == ""
  (line,) = said.err.splitlines()
  assert line.startswith(f"{prog}: ")
  assert message in line
  assert line.endswith(f"; see {prog} --help")
