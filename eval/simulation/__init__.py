"""Experiments that nobody has run: predicted effects, how far to trust them, how many people are needed.

What is imported from here is loaded when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "check": ["Check", "simulate_check"],
        "result": ["Simulation", "load_simulation"],
        "run": ["simulate"],
    },
)
