"""The commands: a file each, and main.py that finds them.

main.py        arguments, and errors as one line with an exit code
train.py evaluate.py predict.py check_data.py prepare.py list_models.py: the
               commands

defaults.py    every config word, its default and its meaning
config.py      config files and --config.key=value, with errors in words
build.py       from words to models, optimizers, strategies
open_data.py   from words to sources
batches.py     who makes the training batches
preflight.py   what can be known to be wrong before the first step
non_finite.py  what a run does about NaN
init_from.py   a run that starts from another's parameters
device_memory.py: whether a step fits a device
outputs.py     the folders that commands write to
workdir.py     the folder of a run
inputs.py      which files predict reads, and their names
"""
