"""The invented population and the tiny models: a world in which the truth is known."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"draw": ["SEED", "make_sample"], "models": ["FAMILIES", "make_model"]}
)
