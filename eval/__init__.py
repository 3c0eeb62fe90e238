"""Predicts, scores and reports: knows the files under data/, and nothing of where they came from.

What is imported from here is loaded when it is first used, so `import eval` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["evaluate"],
        "prediction.planning": ["EvaluationPlan", "plan_evaluation"],
        "prediction.predictor": ["Predictor"],
        "prediction.result": ["Predictions"],
        "prediction.run": ["predict"],
        "reporting.run": ["Report", "report"],
        "rows": ["read_rows"],
        "scoring.api": ["compare", "score"],
        "scoring.record": ["Comparison", "Scores", "read_comparison", "read_scores"],
        "settings": ["Settings"],
        "simulation.result": ["Simulation", "load_simulation"],
        "simulation.run": ["simulate"],
    },
)
