"""Training: state, step, loop; no TensorFlow and no concrete model.

state.py       a struct of arrays
step.py        (state, batch) -> (state, metrics), a pure function
loop.py        the loop around it: log, evaluate, save, stop
evaluation.py  one confusion matrix over a data set
optimizers.py  SGD and AdamW with parameter groups by regular expression
schedules.py   learning rates
sharding.py    the mesh, and where arrays live on it
debug.py       a step of which every intermediate result is looked at
trace.py       what devices and host did in a few steps
watchdog.py    says so when a run hangs
statistics.py  batch-norm statistics over training batches
writers.py     metrics.jsonl, TensorBoard, the progress bar
"""
