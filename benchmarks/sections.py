"""The sections of docs/performance.md: what each shows of which results."""

from typing import NamedTuple


class Section(NamedTuple):
  """What is said of one script's results.

  Attributes:
    title: of the section.
    text: what its tables show.
    columns: (heading, key of a row), in order; columns that no row fills are
      left out. Empty: all plain values of the rows.
    mean: (key, keys): the geometric mean of what, for each value of which, of
      the rows without a note.
    largest: columns; rows that are equal in the others become one, which has
      the largest of these, and in "count" how many they were.
    script: the file, and its words, whose results these are; empty: that of the
      results' name.
  """

  title: str
  text: str
  columns: tuple[tuple[str, str], ...] = ()
  mean: tuple[str, str] | None = None
  largest: tuple[str, ...] = ()
  script: str = ""


_NETWORKS = (
  ("network", "network"),
  ("", "way"),
  ("image", "size"),
  ("batch", "batch"),
  ("ms", "ms"),
  ("images/s", "images_per_second"),
  ("torch, ms", "torch_ms"),
  ("torch, images/s", "torch_images_per_second"),
  ("ours / torch", "ratio"),
  ("of the matrix rate", "rate_share"),
  ("program, MB", "program_mb"),
  ("peak, MB", "peak_mb"),
  ("torch peak, MB", "torch_peak_mb"),
  ("first step, s", "first_step_seconds"),
  ("torch first step, s", "torch_first_step_seconds"),
  ("torch", "torch"),
  ("published, images/s", "published_images_per_second"),
  ("published by", "published_source"),
  ("classes alike", "agreement"),
  ("compiled beside", "compiling_beside"),
  ("note", "note"),
  ("", "failed"),
)

SECTIONS = {
  "models": Section(
    "Networks against PyTorch",
    "Train step and inference of the same network in the same run: more than "
    "one in the column “ours / torch” means that we are faster. The share is "
    "that of the measured rate of a large matrix product.",
    _NETWORKS,
    mean=("ratio", "way"),
  ),
  "models_all": Section(
    "Every network", "Train step and inference, ours alone.", _NETWORKS
  ),
  "layers": Section(
    "Where the time goes",
    "All convolutions of each network, summed by pass, and the layers in which "
    "most is lost to PyTorch. Its convolutions are oneDNN's on a CPU; what was "
    "tried to come closer stands in [decisions](decisions.md).",
    (
      ("network", "network"),
      ("pass", "pass"),
      ("ms", "ms"),
      ("torch, ms", "torch_ms"),
      ("ours / torch", "ratio"),
      ("most is lost in", "most is lost in"),
    ),
  ),
  "ops": Section(
    "Operators",
    "Forward, forward and backward, and each gradient by itself, which tells "
    "where one that stays behind PyTorch loses ([decisions](decisions.md) say "
    "why); a gradient may need parts of the forward pass. The last two "
    "columns tell how many times faster it is than the first of its case, "
    "which is XLA's own or the plainest form. The shares are of the measured "
    "bandwidth of a copy (inputs and outputs counted once for each pass) and "
    "of the measured rate of a matrix product; where the data fit in a cache, "
    "the former passes 1.",
    (
      ("operator", "op"),
      ("case", "case"),
      ("implementation", "implementation"),
      ("forward, ms", "forward_ms"),
      ("both, ms", "both_ms"),
      ("image's gradient, ms", "image_ms"),
      ("kernel's gradient, ms", "kernel_ms"),
      ("peak, MB", "peak_mb"),
      ("of the bandwidth", "bandwidth_share"),
      ("of the matrix rate", "rate_share"),
      ("forward, times", "ratio_forward"),
      ("both, times", "ratio_both"),
    ),
  ),
  "depthwise": Section(
    "Depthwise convolution, pass by pass",
    "What each pass of a depthwise 3x3 convolution takes a GPU.",
    (
      ("case", "case"),
      ("implementation", "implementation"),
      ("forward, ms", "forward_ms"),
      ("image's gradient, ms", "image_ms"),
      ("kernel's gradient, ms", "kernel_ms"),
    ),
  ),
  "kernels": Section(
    "A GPU's kernels",
    "The largest kinds of kernels of a train step, of ten steps' trace.",
    (
      ("network", "network"),
      ("kind", "kind"),
      ("calls", "calls"),
      ("ms", "ms"),
      ("of the step", "share"),
    ),
  ),
  "patches": Section(
    "Dense prediction against patch by patch",
    "A grid of scores from one image, and from a crop for each score (Long, "
    "Shelhamer and Darrell 2015, section 3.1). The difference is that of the "
    "scores; where there is none, the crops are the paper's, and give others.",
    (
      ("network", "case"),
      ("image", "image"),
      ("crop", "patch"),
      ("grid", "grid"),
      ("crops measured", "measured_patches"),
      ("crops a batch", "batch"),
      ("dense, ms", "dense_ms"),
      ("by patches, ms", "patches_ms"),
      ("times faster", "ratio"),
      ("the paper's", "published_ratio"),
      ("difference", "difference"),
    ),
  ),
  "startup": Section(
    "Start",
    "Medians of fresh processes.",
    (("", "what"), ("seconds", "seconds"), ("times sooner", "ratio")),
  ),
  "pipeline": Section("Data", "What the data paths deliver."),
  "input_pipeline": Section(
    "From files to batches",
    "Of one core's time, decoding included; in the last column, more than one "
    "means that we are faster.",
    (
      ("augmentation", "case"),
      ("", "way"),
      ("images a core and second", "images_per_core_second"),
      ("core, ms an image", "core_ms"),
      ("theirs / ours", "ratio"),
    ),
  ),
  "endurance": Section(
    "Many files",
    "Training on a device that takes 50 ms a step and nothing of the "
    "processor: the share of the time in which it waits for a batch, and the "
    "memory of the process.",
  ),
  "many_steps": Section(
    "Many steps",
    "Training on 200 small files, with mixing and class balance, as fast as "
    "batches can be made: the memory of the process.",
    script="endurance.py --many-steps",
  ),
  "check_data": Section(
    "Checking a data set",
    "`fcnjax check-data` over generated photographs of 240×320 pixels and "
    "their masks, from its start to its end; the core's time is that of all "
    "threads together, and is what a machine that others use, too, tells.",
    (
      ("images", "images"),
      ("threads", "threads"),
      ("seconds", "seconds"),
      ("images/s", "images_per_second"),
      ("core, s", "core_seconds"),
      ("core, ms an image", "core_ms"),
      ("peak, MB", "peak_mb"),
    ),
  ),
  "allocator": Section(
    "Freed memory",
    "With memory that is returned to the system when it is freed, as glibc "
    "does, and kept, as the commands do.",
  ),
  "devices": Section(
    "The same on many devices",
    "Narrow networks of each family, three steps in float64, on meshes of "
    "2, 4 and 8 devices ([scaling](scaling.md)) whose axes are data, space or "
    "both, with parameters whole on each device or cut over them: the largest "
    "relative differences to one device, of the losses (which are summed in "
    "float32) and of the first gradient (its norm). "
    "In float32 rounding moves single units and pooled pixels to the other "
    "side; tests compare three families so.",
    (
      ("network", "network"),
      ("processes", "processes"),
      ("axes", "mesh"),
      ("parameters", "parameters"),
      ("meshes", "count"),
      ("losses", "losses"),
      ("gradient", "gradient"),
    ),
    largest=("losses", "gradient"),
    script="devices.py same",
  ),
  "reduced_bytes": Section(
    "What a step reduces",
    "The bytes that the compiled train step's all-reduces sum, against four "
    "for each parameter, which is the cost model's G ([scaling](scaling.md)). "
    "The rest are batch norm's statistics and the loss.",
    (
      ("network", "network"),
      ("devices", "devices"),
      ("4 x parameters", "gradient"),
      ("reduced", "reduced"),
      ("ratio", "ratio"),
      ("all-reduces", "messages"),
    ),
    script="scaling.py bytes",
  ),
  "processes": Section(
    "Steps of several processes",
    "A U-Net's train step, four images of each process, every process on one "
    "core (four of them share two), without batch norm and with it. Computing "
    "is a step of the process's own images, while the others do theirs; the "
    "reduction is one of as many arrays and bytes as the gradient has; the "
    "norms' is what one of 64 numbers takes, twice for each batch norm; "
    "predicted is their sum, and efficiency what part of a step computes.",
    (
      ("processes", "processes"),
      ("cores", "cores"),
      ("gradient, bytes", "gradient"),
      ("batch norms", "norms"),
      ("computing, ms", "compute"),
      ("reduction, ms", "reduction"),
      ("norms', ms", "of_norms"),
      ("step predicted, ms", "predicted"),
      ("step, ms", "step"),
      ("step / predicted", "ratio"),
      ("efficiency", "efficiency"),
    ),
    script="scaling.py steps",
  ),
  "reductions": Section(
    "Reductions of many sizes",
    "What summing one array over processes takes, each on one core (four of "
    "them share two), and what the formula for t_reduce says "
    "([scaling](scaling.md)) with the time of a stage and the bytes a second "
    "that the smallest and the largest of two processes give.",
    (
      ("processes", "processes"),
      ("bytes", "bytes"),
      ("predicted, ms", "predicted"),
      ("reduction, ms", "reduction"),
      ("reduction / predicted", "ratio"),
    ),
    script="scaling.py steps",
  ),
  "largest_image": Section(
    "The largest image",
    "The largest square image with which a train step of one image fits into "
    "the memory of a device, its rows spread over as many as are named "
    "(mesh.space); by the compiled program's analysis, in steps of 128 pixels.",
    (
      ("network", "network"),
      ("devices", "devices"),
      ("memory, GB", "gigabytes"),
      ("side", "side"),
      ("pixels, times", "pixels"),
      ("needed, GB", "needed_gb"),
    ),
    script="devices.py largest",
  ),
}
