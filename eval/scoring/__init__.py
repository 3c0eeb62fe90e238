"""How near predicted answer distributions come to people's, and how sure that is.

from eval.scoring import score, compare
"""

import lazy_loader

from eval.scoring.kernels import remove_stale

remove_stale()

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "api": ["compare", "score"],
        "predictions": ["load_predictions"],
        "record": ["Comparison", "Estimate", "Scores", "read_comparison", "read_scores"],
        "run": ["import_predictions", "score_models"],
    },
)
