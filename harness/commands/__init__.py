"""What the verbs do: `cli.py` parses and calls one function here. Start reading at `run`.

run      outline -> card -> plan -> store -> train what is missing -> verdict from the store
tune     the same road with Optuna asking for the cells
report   recorded comparisons, from the store to files
power    how many seeds a question needs
ui       the MLflow UI on the saved view
"""
