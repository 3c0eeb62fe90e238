"""What the scores say: one page, tidy tables, charts and model cards.

What is imported from here is loaded when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "model_card": ["write_cards"],
        "results": ["Results", "load"],
        "run": ["Report", "report"],
    },
)
