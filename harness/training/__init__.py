"""Training: `stack` (what trains together), `step` (one step), `loop` (epochs), `evaluate`."""
