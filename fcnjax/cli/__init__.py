"""The commands: a file each, and main.py that finds them.

defaults.py    every config word, its default and its meaning
config.py      config files and --config.key=value, with errors in words
open_data.py   the table from data.source to sources
train.py evaluate.py predict.py check_data.py models.py
"""
