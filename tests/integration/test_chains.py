"""The papers' chains of initialisation, by the commands that users type."""

import jax
import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import main, workdir

TINY = (
  "--config.steps=2",
  "--config.eval_every=2",
  "--config.batch_size=2",
  "--config.mesh.data=1",
  "--config.evaluation.overlays=0",
)
PADDING = "--config.model.options.first_padding=1"
VOID = "--config.data.label_map=zero_is_ignored"
VGG = (
  "--config.model.options.widths=(4,4,6,8,8)",
  "--config.model.options.fc_channels=8",
)


def _train(path, config, *words):
  command = ["train", f"--config=configs/{config}", f"--workdir={path}"]
  return main.main([*command, *TINY, *words])


def _params(path):
  config, _, _ = workdir.read(path)
  variables, _ = workdir.restore(path, config, "latest")
  return variables["params"]


@pytest.fixture
def rooms(tmp_path):
  """Six scenes with colour, HHA, depth in 16 bits, and masks of two tasks."""
  random = np.random.default_rng(0)
  kinds = {
    "images": lambda: random.integers(0, 256, (40, 48, 3), np.uint8),
    "hha": lambda: random.integers(0, 256, (40, 48, 3), np.uint8),
    "depth": lambda: random.integers(500, 9000, (40, 48)).astype(np.uint16),
    "masks": lambda: random.integers(0, 5, (40, 48), np.uint8),
    "geometric": lambda: random.integers(0, 4, (40, 48), np.uint8),
  }
  names = [f"room{i}" for i in range(6)]
  for kind, draw in kinds.items():
    (tmp_path / kind).mkdir()
    for name in names:
      PIL.Image.fromarray(draw()).save(tmp_path / kind / f"{name}.png")
  (tmp_path / "train.txt").write_text("\n".join(names[:4]))
  (tmp_path / "val.txt").write_text("\n".join(names[4:]))
  return tmp_path


def _folders(root, classes=4):
  return (
    "--config.data.source=folder",
    "--config.data.train_split=train",
    "--config.data.eval_split=val",
    "--config.data.image_size=(40,48)",
    f"--config.data.images={root}/images",
    f"--config.data.masks={root}/masks",
    f"--config.data.train_list={root}/train.txt",
    f"--config.data.val_list={root}/val.txt",
    f"--config.data.num_classes={classes}",
  )


def test_fcn_32s_16s_8s(rooms, capsys):
  small = ("--config.data.transforms=()", "--config.evaluation.scales=(1.0,)")
  words = (*VGG, *_folders(rooms, 5), *small)
  assert _train(rooms / "32s", "fcn.py:scenes_32s", *words) == 0
  assert (
    _train(
      rooms / "16s",
      "fcn.py:scenes_16s",
      *words,
      f"--config.init_from={rooms}/32s",
    )
    == 0
  )
  out = capsys.readouterr().out
  assert f"starting from {rooms}/32s, step 2" in out
  assert "params/head/score_pool4/kernel: stays fresh" in out
  assert (
    _train(
      rooms / "8s",
      "fcn.py:scenes_8s",
      *words,
      f"--config.init_from={rooms}/16s",
    )
    == 0
  )
  out = capsys.readouterr().out
  assert "params/head/score_pool3/kernel: stays fresh" in out
  assert "score_pool4" not in out
  # A chain that skips a link is refused.
  init = f"--config.init_from={rooms}/32s"
  assert _train(rooms / "8s_too", "fcn.py:scenes_8s", *words, init) == 2
  message = capsys.readouterr().err
  assert "does not fit: params/head/score_pool4/bias" in message
  assert "init_drop" in message


def test_front_end_context_joint(rooms, capsys):
  words = (*VGG, *_folders(rooms, 5))
  assert _train(rooms / "front", "dilation.py", *words) == 0
  path = rooms / "context"
  # The variant asks for the run that it goes on from.
  assert _train(path, "dilation.py:scenes_context", *words) == 2
  assert "--config.init_from: no run in RUN " in capsys.readouterr().err
  init = f"--config.init_from={rooms}/front"
  assert _train(path, "dilation.py:scenes_context", *words, init) == 0
  out = capsys.readouterr().out
  assert "params/context/ctx_conv1/kernel: stays fresh" in out
  front, context = _params(rooms / "front"), _params(path)
  for name in front:  # As it was, to the last bit.
    jax.tree.map(np.testing.assert_array_equal, context[name], front[name])
  init = f"--config.init_from={path}"
  assert _train(rooms / "joint", "dilation.py:scenes_joint", *words, init) == 0
  assert "fresh" not in capsys.readouterr().out
  joint = _params(rooms / "joint")
  assert np.any(joint["final"]["kernel"] != front["final"]["kernel"])


def test_deeplab_from_output_stride_16_to_8_with_frozen_batch_norm(
  rooms, capsys
):
  words = (
    *_folders(rooms, 5),
    "--config.model.options.depths=(1,1,1,1)",
    "--config.model.options.widths=(4,4,4,4)",
    "--config.model.options.multi_grid=(2,)",
    "--config.model.options.channels=8",
  )
  assert _train(rooms / "16", "deeplab.py", *words) == 0
  init = f"--config.init_from={rooms}/16"
  assert _train(rooms / "8", "deeplab.py:scenes_os8", *words, init) == 0
  out = capsys.readouterr().out
  assert "fresh" not in out
  assert "left behind" not in out
  config, _, _ = workdir.read(rooms / "8")
  assert config.model.options.output_stride == 8
  before, after = (
    workdir.restore(rooms / name, config, "latest")[0] for name in ("16", "8")
  )
  jax.tree.map(
    np.testing.assert_array_equal, after["batch_stats"], before["batch_stats"]
  )
  kernel = lambda v: v["params"]["head"]["logits"]["kernel"]  # noqa: E731
  assert np.any(kernel(after) != kernel(before))


def test_nyudv2_colour_and_hha_then_early_and_late_fusion(rooms, capsys):
  words = (*VGG, PADDING, *_folders(rooms), VOID)
  hha = f"--config.data.second_images={rooms}/hha"
  assert _train(rooms / "rgb", "fcn.py:nyudv2_rgb", *words) == 0
  only = f"--config.data.images={rooms}/hha"
  assert _train(rooms / "hha_net", "fcn.py:nyudv2_hha", *words, only) == 0
  code = _train(
    rooms / "rgbd",
    "fcn.py:nyudv2_rgbd",
    *words,
    f"--config.data.second_images={rooms}/depth",
    f"--config.init_from={rooms}/rgb",
  )
  out, err = capsys.readouterr()
  assert code == 0, err
  assert "conv1_1/kernel: more channels" in out
  kernel = _params(rooms / "rgbd")["backbone"]["conv1_1"]["kernel"]
  assert kernel.shape[2] == 4
  init = f"--config.init_from=color={rooms}/rgb,hha={rooms}/hha_net"
  code = _train(rooms / "late", "fcn.py:nyudv2_rgb_hha", *words, hha, init)
  out, err = capsys.readouterr()
  assert code == 0, err
  assert f"starting hha from {rooms}/hha_net" in out
  late = _params(rooms / "late")
  for name, other in (("color", "rgb"), ("hha", "hha_net")):
    start = _params(rooms / other)["backbone"]["conv3_1"]["kernel"]
    now = late[name]["backbone"]["conv3_1"]["kernel"]
    np.testing.assert_allclose(now, start, atol=1e-3)
  code = main.main(
    [
      "predict",
      f"--workdir={rooms}/late",
      f"{rooms}/images",
      f"--output={rooms}/p",
    ]
  )
  assert code == 2
  assert "sees two" in capsys.readouterr().err


def test_sift_flow_is_scored_on_both_of_its_tasks(rooms, capsys):
  words = (
    *VGG,
    PADDING,
    *_folders(rooms),
    VOID,
    f"--config.data.second_masks={rooms}/geometric",
    "--config.data.class_names=()",
    "--config.evaluation.exclude=('class 3',)",
  )
  assert _train(rooms / "sift", "fcn.py:siftflow", *words) == 0
  first = (rooms / "sift" / "evaluation.json").read_text()
  capsys.readouterr()
  for task, classes in (("first", 4), ("second", 3)):
    code = main.main(
      [
        "evaluate",
        f"--workdir={rooms}/sift",
        f"--config.evaluation.task={task}",
      ]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    rows = [line for line in out.splitlines() if line.startswith("class ")]
    assert len([row for row in rows if row.split()[1].isdigit()]) == classes
  assert (rooms / "sift" / "evaluation.json").read_text() == first
  assert (rooms / "sift" / "evaluation_second.json").is_file()


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--config.data.second_masks="], "data.second_masks has 0 classes"),
    (["--config.data.second_classes=2"], "3, but data.second_masks has 2"),
    (["--config.evaluation.task=second"], "validated on its first task"),
    (["--config.evaluation.task=third"], "evaluation.task: 'third'"),
    (["--config.evaluation.exclude=('moon',)"], "'moon' is none of the"),
    (["--config.data.source=scenes"], "the embedded scenes have neither"),
    (["--config.data.second_masks=nowhere"], "nowhere"),
  ],
)
def test_two_tasks_that_do_not_fit_are_one_line(rooms, capsys, words, message):
  first = (
    *VGG,
    PADDING,
    *_folders(rooms),
    VOID,
    f"--config.data.second_masks={rooms}/geometric",
    "--config.data.class_names=()",
    "--config.evaluation.exclude=()",
  )
  assert _train(rooms / "run", "fcn.py:siftflow", *first, *words) == 2
  err = capsys.readouterr().err
  assert message in err
  assert len(err.strip().splitlines()) == 1
