"""The sweeps that are disturbed: one whose events are declared, one that is trained; each takes about a second."""

from __future__ import annotations

QUESTIONS = {
    "declared": """
name: declared
question: Is anything lost or doubled?
base:
  task: {name: declared, chance: "0.7", median_steps: "60", diverges: "0.15"}
  model: {name: declared}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 300, batch: 4}
axes:
  optim.lr: [1.0e-3, 3.0e-3, 1.0e-2]
replicates: 6
stop: {after_event_steps: 120, sustained_steps: 20, half_life_steps: 4}
""",
    "trained": """
name: trained
question: Is anything lost or doubled?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 4}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 150, batch: 4}
axes:
  optim.lr: [1.0e-3, 1.0e-2, 1.0e+30]
replicates: 3
log: {measures_every_steps: 25, snapshots: "60 end"}
""",
    "on_nodes": """
name: on_nodes
question: Is anything lost or doubled?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 4}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 500, batch: 4}
axes:
  optim.lr: [1.0e-3, 1.0e-2]
replicates: 4
log: {measures_every_steps: 100}
""",
}
ANY = ("declared", "trained")  # on_nodes takes longer, since workers and nodes do
