"""What a run was computed with is kept, and a change of it is told."""

from importlib import metadata
import json
import platform

from fcnjax import _version
from fcnjax.cli import defaults, provenance, workdir


def test_config_json_tells_what_a_run_was_computed_with(tmp_path):
  words = {"classes": ("a", "b"), "colors": ((0, 0, 0), (1, 1, 1))}
  record, _ = workdir.check(tmp_path, defaults.get_config(), **words)
  workdir.write(tmp_path, record)
  resolved = json.loads((tmp_path / "config.json").read_text())["resolved"]
  assert resolved["classes"] == ["a", "b"]
  assert resolved["colors"] == [[0, 0, 0], [1, 1, 1]]
  found = resolved["computed_with"]
  assert found["python"] == platform.python_version()
  assert found["fcnjax"] == _version.__version__
  for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
    assert found[name] == metadata.version(name)
  assert found["device"] == "cpu"
  # Nothing changed, then two things did, then a run knows none of this.
  record, changes = workdir.check(tmp_path, defaults.get_config(), **words)
  assert not changes
  record["resolved"]["computed_with"] |= {"jax": "0.1", "device": "TPU v4"}
  workdir.write(tmp_path, record)
  record, changes = workdir.check(tmp_path, defaults.get_config(), **words)
  assert changes == [
    "device changed: was TPU v4, is cpu; numbers may differ from here on",
    f"jax changed: was 0.1, is {metadata.version('jax')}; numbers may differ "
    "from here on",
  ]
  del record["resolved"]["computed_with"]
  workdir.write(tmp_path, record)
  assert not workdir.check(tmp_path, defaults.get_config(), **words)[1]


def test_code_that_differs_in_a_byte_or_a_name_has_another_digest(tmp_path):
  (tmp_path / "models").mkdir()
  file = tmp_path / "models" / "unet.py"
  file.write_text("depth = 4\n")
  digests = [provenance._digest(tmp_path)]
  file.write_text("depth = 5\n")
  digests.append(provenance._digest(tmp_path))
  file.rename(tmp_path / "unet.py")
  digests.append(provenance._digest(tmp_path))
  (tmp_path / "unet.py").rename(file)
  file.write_text("depth = 4\n")
  (tmp_path / "models" / "kept.pyc").write_bytes(b"1")
  assert len(set(digests)) == 3
  assert provenance._digest(tmp_path) == digests[0]
