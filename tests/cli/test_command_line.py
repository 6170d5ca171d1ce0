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


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "notes.txt"
  path.write_text("mine")
  return path


@pytest.mark.parametrize("below", ["", "run"])
@pytest.mark.parametrize(
  ("words", "option"),
  [
    (["train", "--config=configs/unet.py"], "--workdir"),
    (["evaluate"], "--workdir"),
    (["predict", "x.png", "--output=y"], "--workdir"),
    (["check-data", "--config=configs/unet.py"], "--output"),
    (["prepare-folder", "--config=configs/unet.py:folder"], "--output"),
    (["prepare", "camvid"], "--data-dir"),
    (["show-data", "--config=configs/unet.py"], "--output"),
  ],
)
def test_a_file_in_place_of_a_folder_is_told_in_one_way(
  capsys, file, words, option, below
):
  folder = file / below
  given = folder / "sheet.png" if words[0] == "show-data" else folder
  assert main.main([*words, f"{option}={given}"]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line == (
    f"fcnjax: {option}: {folder}: expected a folder, but {file} is a file; give"
    " another."
  )
  assert file.read_text() == "mine"


def test_a_closed_pipe_is_no_success(monkeypatch, capsys):
  """A run that it ended would be taken for done; a shell's number for it."""

  def write(*words):
    raise BrokenPipeError

  monkeypatch.setattr(main, "_run", write)
  assert main.main(["models"]) == 141
  assert capsys.readouterr() == ("", "")
