"""Objectives in words, for axes."""

_WORDS = {
    "p_eureka": "P(eureka)",
    "rmst": "restricted mean [steps]",
    "median_step": "median eureka step [steps]",
    "plateau_length": "plateau [steps]",
    "final_loss": "final loss",
    "run_steps": "steps a run [steps]",
}


def objective_words(label: str) -> str:
    """The label of an objective, with its step where it has one."""
    for kind, words in _WORDS.items():
        if label == kind:
            return words
        if label.startswith(f"{kind}_"):
            step = label.removeprefix(f"{kind}_")
            return f"{words}, {'whole run' if step == 'budget' else f'by step {step}'}"
    return label
