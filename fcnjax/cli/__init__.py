"""The commands: a file each, and main.py that finds them.

main.py        runs a command; errors as one line with an exit code
train.py evaluate.py predict.py check_data.py prepare.py list_models.py: the
               commands

parser.py      the words of every command
defaults.py    every config word, its default and its meaning
config.py      config files and --config.key=value, with errors in words
build.py       from words to models, optimizers, strategies
open_data.py   from words to sources
batches.py     who makes the training batches
preflight.py   what can be known to be wrong before the first step
validation.py  the evaluation during training
non_finite.py  what a run does about NaN
init_from.py   a run that starts from another's parameters
signals.py     Ctrl-C and SIGTERM where no steps are made
processes.py   the words by which a command is one of several
rows.py device_memory.py: whether images and a step fit the devices
outputs.py     the folders that commands write to
workdir.py     the folder of a run
provenance.py  versions and device, kept there
inputs.py      which files predict reads, and their names
"""
